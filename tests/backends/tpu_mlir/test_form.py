"""What TPU-MLIR is given of an INT8 network: float ONNX of the integers' values, and a threshold for each tensor."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from onnx import numpy_helper

from picoquant.backends.tpu_mlir.chips import CHIPS, DEFAULT, chip_of
from picoquant.backends.tpu_mlir.export import _say_others
from picoquant.backends.tpu_mlir.form import make_form, table_of
from picoquant.errors import ToolError
from picoquant.int8.files import open_network
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    made = quick_int8(exported("picodet_s_416_coco_npu.yml", folder / "fp32", size=32), folder / "int8")
    return open_network(made).for_one_image((32, 32), "whole")


@pytest.fixture(scope="module")
def form(network):
    return make_form(network)


def test_it_is_the_float_network_of_the_integers_values(network, form):
    model, _ = form
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in model.graph.node}
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for operator in network.operators[:20]:
        np.testing.assert_array_equal(constants[operator.weight].ravel(), operator.value.ravel())


def test_every_tensor_has_a_threshold_by_the_name_that_its_node_gives_it(network, form):
    model, thresholds = form
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    assert thresholds["image"] == ("image", network.ranges["image"])
    for theirs, (name, value) in thresholds.items():
        assert theirs == (name if name == "image" else f"{name}_{made[name]}")
        assert value == network.ranges[name]
    held = {name for name in network.held if name in made or name == "image"}
    assert held <= {name for name, _ in thresholds.values()} and len(held) > 100


def test_the_table_is_as_tpu_mlir_reads_it(form):
    lines = table_of(form[1]).splitlines()
    assert [line[0] for line in lines[:2]] == ["#", "#"] and len(lines) == len(form[1]) + 2
    name, threshold, low, high = lines[2].split()
    assert name == "image" and float(threshold) == float(high) == -float(low)
    assert float(threshold) == pytest.approx(form[1]["image"][1], rel=1e-8)


def test_tensors_with_another_scale_are_said(caplog):
    thresholds = {"image": ("image", 1.27), "a_Conv": ("a", 2.54), "s_Sigmoid": ("s", 0.5)}
    with caplog.at_level(logging.INFO, "picoquant"):
        _say_others({"imagea_Conv_si8": 0.01, "s_Sigmoid": 1 / 127, "unknown": 0.1}, thresholds)
        _say_others({"image": 0.01, "a_Conv": 0.02}, thresholds)
    assert caplog.messages == [
        "tpu-mlir: 1 of 3 tensors have the network's scale; TPU-MLIR's own: s, unknown",
        "tpu-mlir: 2 of 2 tensors have the network's scale",
    ]


def test_processors_are_those_of_the_profiles():
    assert chip_of(None) == DEFAULT == chip_of(load_target("cv181x")) and DEFAULT in CHIPS
    with pytest.raises(
        ToolError,
        match=r"no \.cvimodel for RV1126: `soc` in the profile of rv1126 must be one of cv180x, cv181x",
    ):
        chip_of(load_target("rv1126"))
