"""How exporters write a convolution's bias."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from picoquant.convert.conv_graph import read_convs

BIAS = np.array([1.0, -2.0, 3.0, 0.5], np.float32)


def written(nodes, constants, opset=13):
    """`Conv`, then `Add` of whatever `nodes` make of `constants` as `bias`."""
    weight = np.ones((4, 3, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["conv"]),
        *nodes,
        helper.make_node("Add", ["conv", "bias"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4, 2, 2])],
        [numpy_helper.from_array(value, name) for name, value in {"weight": weight, **constants}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def bias_of(*arguments) -> list[float]:
    return list(read_convs(written(*arguments), Path("a.onnx"))[0].bias)


@pytest.mark.parametrize("shape", [[1, 4, 1, 1], [1, -1, 1, 1], [-1, 4, 1, 1], [4, 1, 1]], ids=str)
def test_a_bias_in_any_shape_that_adds_to_the_channels(shape):
    reshape = helper.make_node("Reshape", ["values", "shape"], ["bias"])
    assert bias_of([reshape], {"values": BIAS, "shape": np.array(shape)}) == list(BIAS)


def test_values_and_shape_behind_identity_as_paddle_3_writes_them():
    nodes = [
        helper.make_node("Identity", ["values"], ["a"]),
        helper.make_node("Identity", ["shape"], ["b"]),
        helper.make_node("Identity", ["b"], ["c"]),
        helper.make_node("Reshape", ["a", "c"], ["bias"]),
    ]
    assert bias_of(nodes, {"values": BIAS, "shape": np.array([1, -1, 1, 1])}) == list(BIAS)


def test_a_side_that_is_kept():
    reshape = helper.make_node("Reshape", ["values", "shape"], ["bias"])
    values = {"values": BIAS.reshape(1, 4), "shape": np.array([0, 0, 1, -1])}
    assert bias_of([reshape], values) == list(BIAS)


@pytest.mark.parametrize("opset", [11, 13])
def test_axes_added_as_an_attribute_or_as_an_input(opset):
    if opset == 11:
        node, more = helper.make_node("Unsqueeze", ["values"], ["bias"], axes=[1, 2]), {}
    else:
        node, more = helper.make_node("Unsqueeze", ["values", "axes"], ["bias"]), {"axes": np.array([-1, -2])}
    assert bias_of([node], {"values": BIAS, **more}, opset) == list(BIAS)


@pytest.mark.parametrize("shape", [[1, 1, 4, 1], [1, 1, 2, 2], [2, -1, 1, 1]], ids=str)
def test_what_adds_otherwise_is_no_bias(shape):
    reshape = helper.make_node("Reshape", ["values", "shape"], ["bias"])
    assert bias_of([reshape], {"values": BIAS, "shape": np.array(shape)}) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "shape", [[-1, -1, 1, 1], [1, 3, 1, 1], [1, -1, 3, 1], [1, -2, 1, 1], [0, 0, 0]], ids=str
)
def test_a_shape_that_fits_nothing_is_no_bias(shape):
    reshape = helper.make_node("Reshape", ["values", "shape"], ["bias"])
    assert bias_of([reshape], {"values": BIAS, "shape": np.array(shape)}) == [0, 0, 0, 0]
