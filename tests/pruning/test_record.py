"""The shapes of a pruned network, kept beside its weights and found by a later command."""

from __future__ import annotations

import json
import logging

import numpy as np
import paddle
import pytest

from picoquant.backends.paddle.evaluation_worker import Evaluator
from picoquant.detector.build import build_picodet
from picoquant.detector.resizing import take_shapes
from picoquant.detector.weights import load_weights, save_weights
from picoquant.errors import WeightsError
from picoquant.pruning.filters.remove import shapes_of
from picoquant.pruning.record import record_of, write_record
from picoquant.stages.model import load_start, load_trained, take_pruned_shapes
from picoquant.stages.plan import load_plan
from tests.command_line import picoquant

CONFIG = "picodet_xs_320_coco_lcnet.yml"
SMALLER = {
    "backbone.conv1.conv.weight": (6, 3, 3, 3), "backbone.blocks2.0.dw_conv.conv.weight": (6, 1, 3, 3),
    "backbone.blocks2.0.pw_conv.conv.weight": (16, 6, 1, 1),
    **{f"backbone.{layer}.bn.{one}": (6,) for layer in ("conv1", "blocks2.0.dw_conv")
       for one in ("weight", "bias", "_mean", "_variance")},
}  # fmt: skip


@pytest.fixture(scope="module")
def plan():
    return load_plan(CONFIG)


def network(plan, smaller=True, classes=3):
    paddle.seed(7)
    model = build_picodet(plan.detector_for(classes))
    own = {name: value.shape for name, value in model.state_dict().items()}
    if smaller:
        outputs = own["backbone.blocks2.0.pw_conv.conv.weight"][0]
        take_shapes(model, SMALLER | {"backbone.blocks2.0.pw_conv.conv.weight": (outputs, 6, 1, 1)})
        for name in SMALLER:
            value = model.state_dict()[name]
            value.set_value(np.random.default_rng(0).uniform(0.2, 1, value.shape).astype(np.float32))
    model.eval()
    return model


@pytest.fixture
def pruned(tmp_path, plan):
    model, weights = network(plan), tmp_path / "best.pdparams"
    save_weights(model, weights)
    write_record(weights, shapes_of(model), {"backbone.conv1.conv.weight": [8, 6]}, [20, 10])
    return model, weights


def outputs(model):
    with paddle.no_grad():
        return [value.numpy() for value in model.raw(paddle.full([1, 3, 64, 64], 0.3))[0]]


def same(first, second):
    return all(np.array_equal(*pair) for pair in zip(outputs(first), outputs(second)))


def test_loaded_with_the_record(plan, pruned, caplog):
    model, weights = pruned
    with caplog.at_level(logging.INFO, "picoquant"):
        loaded = load_trained(plan, 3, weights)
    assert same(model, loaded)
    assert "of a pruned network, 11 tensors are smaller (best.pruned.json)" in caplog.text


def test_trained_on_for_other_classes(plan, pruned):
    start = network(plan, smaller=False, classes=5)
    load_start(start, pruned[1])
    assert start.state_dict()["backbone.conv1.conv.weight"].shape == [6, 3, 3, 3]
    assert start.state_dict()["head.head_cls_list.0.weight"].shape[0] == 5


def test_without_the_record(plan, pruned):
    record_of(pruned[1]).unlink()
    with pytest.raises(
        WeightsError, match=r"another architecture.*conv1.conv.weight is \[6, 3, 3, 3\] in the file"
    ):
        load_trained(plan, 3, pruned[1])
    # Section `Pruner` says that the file's own shapes are meant, as those of PaddleDetection's trainings are.
    named = load_plan(CONFIG, ["Pruner={pruned_params: [conv2d_0.w_0], pruned_ratios: 0.25}"])
    assert same(pruned[0], load_trained(named, 3, pruned[1]))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            lambda values: values["shapes"].update({"backbone.conv1.conv.weight": [5, 3, 3, 3]}),
            "do not fit together",
        ),
        (
            lambda values: values["shapes"].update({"backbone.conv1.conv.weight": [6, 3, 3]}),
            "other numbers of axes",
        ),
    ],
)
def test_a_record_of_another_network(plan, pruned, change, error):
    values = json.loads(record_of(pruned[1]).read_text())
    change(values)
    record_of(pruned[1]).write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=f"best.pdparams: weights of another architecture, or .*{error}"):
        load_trained(plan, 3, pruned[1])


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"shapes": {"a": ["6"]}}', '{"shapes": {"a": [99999999]}}', '{"shapes": 3}', "[" * 100_000],
)
def test_a_damaged_record(plan, pruned, text):
    record_of(pruned[1]).write_text(text)
    with pytest.raises(
        WeightsError, match="best.pruned.json: damaged: it says which shapes .*; copy it once more"
    ):
        take_pruned_shapes(network(plan, smaller=False), pruned[1])


def test_converted_weights_keep_it(plan, pruned, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    converted = tmp_path / "elsewhere/mine.safetensors"
    done = picoquant("convert-weights", pruned[1], converted)
    assert done.returncode == 0, done.stderr
    assert same(pruned[0], load_trained(plan, 3, converted))


def test_weights_of_another_file_stay_whole(plan, pruned, tmp_path):
    whole = network(plan, smaller=False)
    save_weights(whole, tmp_path / "whole.pdparams")
    assert not take_pruned_shapes(network(plan, smaller=False), tmp_path / "whole.pdparams")
    assert load_weights(network(plan, smaller=False), tmp_path / "whole.pdparams").skipped == ()


def test_evaluation_in_the_middle_of_training(plan, pruned):
    """The child process builds the network from its settings, and gets the smaller weights."""
    child = Evaluator()
    child.network(plan.detector_for(3), (64, 64))
    child.weights({name: value.numpy() for name, value in pruned[0].state_dict().items()})
    image = np.full((1, 3, 64, 64), 0.3, np.float32)
    _, scores = child.run({"image": image})
    with paddle.no_grad():
        expected = pruned[0](paddle.to_tensor(image))[0].numpy()
    assert np.allclose(scores, expected, atol=1e-5)
