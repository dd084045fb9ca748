"""opt makes sparse convolutions of pruned ones, for CPUs and not for NPUs."""

from __future__ import annotations

import logging
import shutil

import paddle
import pytest
from paddle import nn

from picoquant.backends.paddle_lite.export import make_nb
from picoquant.export.paddle_export import write_layer
from picoquant.paddle_program.program import read_program
from picoquant.pruning.masks import masks_of
from picoquant.targets.profiles import load_targets


def model(folder, part):
    """Two 1x1 convolutions of 32 channels, the second with a part of its weights at 0."""
    with paddle.utils.unique_name.guard():
        network = nn.Sequential(nn.Conv2D(3, 32, 1), nn.ReLU(), nn.Conv2D(32, 32, 1), nn.ReLU())
        network.eval()
        weight = network[2].weight
        weight.set_value(weight.numpy() * masks_of({"": weight.numpy()}, part, True)[""])
        write_layer(network, [paddle.static.InputSpec([1, 3, 16, 16], "float32", "image")], folder)
    return read_program(folder / "model.pdmodel"), folder / "model.pdiparams"


@pytest.mark.parametrize(
    ("part", "target", "fp16", "sparse"),
    [(0.75, "arm_cpu", False, True), (0.5, "arm_cpu", False, False), (0.75, "arm_cpu", True, False)],
)
def test_what_opt_makes(part, target, fp16, sparse, opt, tmp_path, caplog):
    program, params = model(tmp_path, part)
    with caplog.at_level(logging.INFO, "picoquant"):
        make_nb(program, params, tmp_path / "made.nb", load_targets([target])[0], opt, None, fp16)
    made = (tmp_path / "made.nb").read_bytes()
    assert (b"sparse_conv2d" in made) == sparse
    assert ("opt: 1 of 2 1x1 convolutions become sparse ones" in caplog.text) == sparse


def test_not_on_an_npu(tmp_path):
    asked = {}
    program, params = model(tmp_path, 0.75)

    class Opt:
        version = "v2.13-rc"

        def run(self, model, params, out, targets, **options):
            asked.update(options)
            shutil.copyfile(params, out)

    target = load_targets(["rv1126"])[0]
    make_nb(program, params, tmp_path / "made.nb", target, Opt(), None)
    assert asked["sparse"] is None
