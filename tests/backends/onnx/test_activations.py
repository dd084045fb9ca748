"""Activations rewritten for integer kernels, and convolutions widened for them, against the graph as it was."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from picoquant.backends.onnx.activations import drop_clips, hard_sigmoids, join_hard_swish, split_hard_swish
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.graph import Graph
from picoquant.backends.onnx.ort.kernels import cells_last, pad_input_channels, widen_thin_convolutions
from picoquant.backends.onnx.parity import run_onnx
from picoquant.backends.onnx.simplify import simplify


def model(nodes, constants, shape, opset=14):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3:] or [{}])[0]) for node in nodes], "g", inputs, outputs, stored
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def value(made, x):
    return ReferenceEvaluator(made).run(None, {"x": x})[0]


NUMBERS = {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6), "sixth": np.float32(1 / 6)}
START = [("Add", ["x", "three"], ["a"]), ("Clip", ["a", "zero", "six"], ["c"])]
FORMS = {
    "operator": [("HardSwish", ["x"], ["y"])],
    "product, then division": [*START, ("Mul", ["x", "c"], ["m"]), ("Div", ["m", "six"], ["y"])],
    "factor, then product": [*START, ("Mul", ["c", "sixth"], ["m"]), ("Mul", ["m", "x"], ["y"])],
}


@pytest.mark.parametrize("form", FORMS)
def test_hard_swish_becomes_a_sum_and_a_product(form):
    made = model(FORMS[form], NUMBERS, [1, 9])
    x = np.linspace(-5, 5, 9, dtype=np.float32)[None]
    expected = x * np.clip(x + 3, 0, 6) / 6
    graph = Graph(made)
    join_hard_swish(graph)
    assert [node.op_type for node in graph.nodes] == ["HardSwish"]
    split_hard_swish(graph)
    assert [node.op_type for node in graph.nodes] == ["HardSigmoid", "Mul"]
    units = hard_sigmoids(graph, {}, (), ())
    assert [node.op_type for node in graph.nodes] == ["Add", "Mul"]
    # The sum is in units of the slope: limited to 0 and 6 by its levels, a sixth of it is the gate.
    ((gate, unit),) = units.items()
    assert unit == pytest.approx(1 / 6)
    offset = graph.constants[f"{gate}.offset"]
    assert offset.tolist() == [3.0]
    np.testing.assert_allclose(x * np.clip(x + offset, 0, 1 / unit) * unit, expected, atol=1e-6)


def test_another_product_is_left_alone():
    nodes = [*START, ("Mul", ["x", "c"], ["m"]), ("Div", ["m", "three"], ["y"])]  # twice a hard-swish
    graph = Graph(model(nodes, NUMBERS, [1, 9]))
    join_hard_swish(graph)
    assert [node.op_type for node in graph.nodes] == ["Add", "Clip", "Mul", "Div"]


def test_hard_sigmoid_goes_into_its_convolution():
    constants = {"w": np.full((1, 1, 1, 1), 2, np.float32), "b": np.float32([1])}
    nodes = [("Conv", ["x", "w", "b"], ["c"]), ("HardSigmoid", ["c"], ["y"], {"alpha": 0.25, "beta": 0.5})]
    graph = Graph(model(nodes, constants, [1, 1, 1, 1]))
    factors: dict = {}
    assert hard_sigmoids(graph, factors, {"w"}, {"y"}) == {"y": 1.0}
    (conv,) = graph.nodes
    # clip(0.25 * (2 x + 1) + 0.5, 0, 1): weight times 0.25, bias 0.25 + 0.5.
    assert list(conv.output) == ["y"] and factors["c"].tolist() == [0.25]
    assert graph.constants[conv.input[2]].tolist() == [0.75]
    # What the convolution gives is rounded before: a sum, 4 times the result.
    graph = Graph(model(nodes, constants, [1, 1, 1, 1]))
    assert hard_sigmoids(graph, {}, {"w"}, {"c"}) == {"y": 0.25}
    assert [node.op_type for node in graph.nodes] == ["Conv", "Add"]
    assert graph.constants["y.offset"].tolist() == [2.0]


def test_clip_that_others_see_stays():
    nodes = [
        ("Sqrt", ["x"], ["s"]),
        ("Clip", ["s", "zero", "six"], ["c"]),
        ("Add", ["s", "c"], ["y"]),
    ]
    graph = Graph(model(nodes, NUMBERS, [1, 9]))
    assert drop_clips(graph, {"c": 5.0}, {}) == {} and len(graph.nodes) == 3


@pytest.mark.parametrize(("quantised", "limits"), [({"w"}, {"y": 6.0}), (set(), {})])
def test_clip_behind_a_convolution_in_float_stays(quantised, limits):
    """Its result has no levels that would end where the Clip does."""
    constants = {**NUMBERS, "w": np.full((1, 1, 1, 1), 2, np.float32)}
    nodes = [("Conv", ["x", "w"], ["c"]), ("Clip", ["c", "zero", "six"], ["y"])]
    graph = Graph(model(nodes, constants, [1, 1, 1, 1]))
    assert drop_clips(graph, {"y": 6.0}, quantised) == limits
    assert [node.op_type for node in graph.nodes] == (["Conv"] if limits else ["Conv", "Clip"])


def test_names_constants_and_biases_are_simplified():
    constants = {
        "w": np.ones((2, 1, 1, 1), np.float32),
        "stored": np.float32([3, 4]),
        "shape": np.array([1, 2, 1, 1]),
    }
    nodes = [
        ("Reshape", ["stored", "shape"], ["bias"]),
        ("Conv", ["x", "w"], ["c"]),
        ("Add", ["c", "bias"], ["Add.1"]),
        ("Identity", ["Add.1"], ["paddles_name"]),
        ("Sqrt", ["x"], ["nobody"]),
        ("Abs", ["paddles_name"], ["y"]),
    ]
    made = model(nodes, constants, [1, 1, 2, 2])
    graph = Graph(made)
    simplify(graph, {"paddles_name"})
    assert [node.op_type for node in graph.nodes] == ["Conv", "Abs"]
    assert list(graph.nodes[0].output) == ["paddles_name"]
    assert graph.constants[graph.nodes[0].input[2]].tolist() == [3, 4]
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(
        value(graph.finish(), x), np.abs(np.stack([x[0, 0] + 3, x[0, 0] + 4])[None])
    )


def test_widened_convolution_gives_the_same(tmp_path):
    random = np.random.default_rng(2)
    constants = {
        "w": random.integers(-127, 128, (1, 96, 5, 5)).astype(np.int8), "ws": np.float32([0.01]),
        "b": np.int32([77]), "bs": np.float32([0.001]),
        "w2": np.full((3, 1, 1, 1), 90, np.int8), "w2s": np.float32([0.1, 0.2, 0.3]), "w2z": np.zeros(3, np.int8),
        "s": np.float32(0.1), "z": np.uint8(0), "xz": np.uint8(128),
    }  # fmt: skip
    nodes = [
        ("QuantizeLinear", ["x", "s", "xz"], ["xq"]), ("DequantizeLinear", ["xq", "s", "xz"], ["xd"]),
        ("DequantizeLinear", ["w", "ws"], ["wd"], {"axis": 0}),
        ("DequantizeLinear", ["b", "bs"], ["bd"], {"axis": 0}),
        ("Conv", ["xd", "wd", "bd"], ["c"], {"pads": [2] * 4}),
        ("QuantizeLinear", ["c", "s", "z"], ["cq"]), ("DequantizeLinear", ["cq", "s", "z"], ["cd"]),
        ("DequantizeLinear", ["w2", "w2s", "w2z"], ["w2d"], {"axis": 0}),
        ("Conv", ["cd", "w2d"], ["y"]),
    ]  # fmt: skip
    x = random.normal(0, 1, (1, 96, 24, 24)).astype(np.float32)  # 24 * 24 * 2400 bytes to copy: worth it
    made = model(nodes, constants, list(x.shape), 19)
    write_onnx(made, tmp_path / "thin.onnx")
    (before,) = run_onnx(tmp_path / "thin.onnx", {"x": x})  # in integers: exact
    graph = Graph(made)
    assert widen_thin_convolutions(graph, graph.shapes) == ["c"]
    assert graph.constants["w"].shape == (16, 96, 5, 5) and graph.constants["w2"].shape == (3, 16, 1, 1)
    write_onnx(graph.finish(), tmp_path / "wide.onnx")
    np.testing.assert_array_equal(run_onnx(tmp_path / "wide.onnx", {"x": x})[0], before)
    assert before.max() > 0


def test_padded_image_gives_the_same(tmp_path):
    random = np.random.default_rng(4)
    constants = {
        "w": random.integers(-127, 128, (16, 3, 3, 3)).astype(np.int8), "ws": np.full(16, 0.01, np.float32),
        "b": random.integers(-9, 9, 16).astype(np.int32), "bs": np.full(16, 0.001, np.float32),
        "s": np.float32(0.1), "z": np.uint8(128),
    }  # fmt: skip
    nodes = [
        ("QuantizeLinear", ["x", "s", "z"], ["xq"]), ("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        ("DequantizeLinear", ["w", "ws"], ["wd"], {"axis": 0}),
        ("DequantizeLinear", ["b", "bs"], ["bd"], {"axis": 0}),
        ("Conv", ["xd", "wd", "bd"], ["c"], {"pads": [1] * 4}),
        ("QuantizeLinear", ["c", "s", "z"], ["cq"]), ("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]  # fmt: skip
    x = random.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)
    made = model(nodes, constants, list(x.shape), 13)
    write_onnx(made, tmp_path / "three.onnx")
    (before,) = run_onnx(tmp_path / "three.onnx", {"x": x})
    graph = Graph(made)
    assert pad_input_channels(graph) == ["c"] and graph.constants["w"].shape == (16, 4, 3, 3)
    write_onnx(graph.finish(), tmp_path / "four.onnx")
    np.testing.assert_array_equal(run_onnx(tmp_path / "four.onnx", {"x": x})[0], before)
    assert np.ptp(before) > 1


def test_cells_last_gives_the_same():
    nodes = [("Reshape", ["x", "shape"], ["r"]), ("Transpose", ["r"], ["y"], {"perm": [0, 2, 1]})]
    made = model(nodes, {"shape": np.array([0, 3, -1])}, [1, 3, 2, 5])
    x = np.arange(30, dtype=np.float32).reshape(1, 3, 2, 5)
    expected = value(made, x)
    graph = Graph(made)
    cells_last(graph)
    assert [node.op_type for node in graph.nodes] == ["Transpose", "Reshape"]
    np.testing.assert_array_equal(value(graph.finish(), x), expected)
