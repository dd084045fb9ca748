"""The zeros of a pruned network through PTQ and QAT: each one is 0 in the INT8 network, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.export.paddle_export import write_layer
from picoquant.int8.files import open_network
from picoquant.paddle_program.infer_config import write_infer_config
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.pruning.masks import masks_of
from picoquant.quantization.ptq.zeros import kept_zeros
from picoquant.quantization.quantize import quantize
from picoquant.quantization.settings import QuantizationSettings
from tests.networks.small_net import CONFIG, SIZE, Small, batches, export_small, settings


def export_sparse(folder, part):
    """The small network with the smallest weights of each convolution at 0; the zeros by the weight's name."""
    with paddle.utils.unique_name.guard():
        network = Small()
        network.eval()
        zeros = {}
        for value in network.parameters():
            if value.ndim == 4:
                mask = masks_of({"": value.numpy()}, part, local=True)[""]
                value.set_value(value.numpy() * mask)
                zeros[value.name] = mask == 0
        write_layer(network, [paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", "image")], folder)
    write_infer_config(CONFIG, folder)
    return zeros


PLAIN = {"cross_layer_equalisation": False}
WAYS = {
    "ptq, reconstructed": QuantizationSettings(method="ptq", rounding="reconstructed", **PLAIN),
    "levels": QuantizationSettings(training="levels", level_rate=2.0, **PLAIN),
    "configured": QuantizationSettings(training="configured", **PLAIN),
    "levels, equalised": QuantizationSettings(training="levels", level_rate=2.0),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_zero_stays(way, tmp_path):
    (tmp_path / "fp32").mkdir(), (tmp_path / "teacher").mkdir()
    zeros = export_sparse(tmp_path / "fp32", 0.6)
    export_small(tmp_path / "teacher", seed=4)  # much to learn
    wanted = replace(
        settings(6, {}, {"teacher_model_dir": str(tmp_path / "teacher")}, learning_rate=0.05),
        quantization=WAYS[way],
    )
    quantize(tmp_path / "fp32", tmp_path / "model", tmp_path / "work", batches, wanted, config=CONFIG)
    network = open_network(ModelFolder.open(tmp_path / "model"))
    assert len(network.operators) == 5
    for operator in network.operators:
        mask, found = zeros[operator.weight], operator.integers
        if found.shape == mask.shape:
            assert not found[mask].any(), operator.output
            assert (found[~mask] != 0).mean() > 0.8
        else:  # equalisation has copied channels, with their zeros
            assert (found == 0).mean() > mask.mean() - 0.1
    same = sum(one.integers.shape == zeros[one.weight].shape for one in network.operators)
    assert same == (0 if "equalised" in way else 5)


def test_what_counts_as_pruned():
    weight = np.ones((4, 10, 1, 1), np.float32)
    assert kept_zeros(weight) is None
    weight[0] = 0  # switched off
    assert kept_zeros(weight) is None
    weight[1, :3] = 0  # 3 of the 30 weights of the others
    found = kept_zeros(weight)
    assert found.sum() == 13
    weight[1, 0] = 1
    assert kept_zeros(weight) is None
