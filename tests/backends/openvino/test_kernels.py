"""Forms that OpenVINO computes faster, in it and in ONNX Runtime, against the graph as it was: every bit the same."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.graph import Graph
from picoquant.backends.onnx.parity import run_onnx
from picoquant.backends.openvino.kernels import drop_idle_rounding, gates_apart
from picoquant.backends.openvino.quiet import import_openvino
from picoquant.backends.openvino.runtime import properties
from tests.backends.onnx.test_activations import model


def rounded(name, scale="s", zero="z"):
    """Nodes that round a tensor, `NAME` to `NAME_back`."""
    return [
        ("QuantizeLinear", [name, scale, zero], [f"{name}_q"]),
        ("DequantizeLinear", [f"{name}_q", scale, zero], [f"{name}_back"]),
    ]


CONSTANTS = {
    "s": np.float32(0.05), "z": np.uint8(101), "s2": np.float32(0.04), "sg": np.float32(1 / 255), "zg": np.uint8(0),
    "scales": np.float32([1, 1, 2, 2]), "area": np.float32([]),
}  # fmt: skip


def results(path, x):
    """Of ONNX Runtime and of OpenVINO."""
    openvino = import_openvino()
    compiled = openvino.Core().compile_model(path, "CPU", properties(1))
    return run_onnx(path, {"x": x})[0], np.array(compiled({"x": x})[0])


def same(made, edit, x, folder):
    """What the edit returns and the graph, after comparing results."""
    pytest.importorskip("openvino")
    write_onnx(made, folder / "before.onnx")
    graph = Graph(made)
    done = edit(graph)
    write_onnx(graph.finish(), folder / "after.onnx")
    for before, after in zip(results(folder / "before.onnx", x), results(folder / "after.onnx", x)):
        np.testing.assert_array_equal(before, after)
        assert len(np.unique(before)) > 20
    return done, [node.op_type for node in graph.nodes]


def test_gates_apart(tmp_path):
    nodes = [
        *rounded("x"), ("GlobalAveragePool", ["x_back"], ["m"]), *rounded("m"),
        ("Sigmoid", ["m_back"], ["g"]), *rounded("g", "sg", "zg"),
        ("Mul", ["x_back", "g_back"], ["p"]), *rounded("p", "s2"), ("Mul", ["p_back", "p_back"], ["y"]),
    ]  # fmt: skip
    x = np.random.default_rng(0).normal(1, 2, (1, 24, 6, 5)).astype(np.float32)
    done, kinds = same(model(nodes, CONSTANTS, list(x.shape), 13), gates_apart, x, tmp_path)
    assert done == ["g"] and kinds.count("Reshape") == 2


def test_rounding_of_what_is_rounded(tmp_path):
    """Behind a Resize and a Concat nothing is left; a Concat of two scales keeps its own."""
    resize = ("Resize", ["x_back", "area", "scales"], ["r"], {"mode": "nearest", "nearest_mode": "floor",
              "coordinate_transformation_mode": "asymmetric"})  # fmt: skip
    nodes = [
        *rounded("x"), resize, *rounded("r"),
        ("Concat", ["r_back", "r_back"], ["c"], {"axis": 1}), *rounded("c"),
        ("Mul", ["c_back", "c_back"], ["d"]), *rounded("d", "s2"),
        ("Concat", ["c_back", "d_back"], ["e"], {"axis": 1}), *rounded("e"), ("Add", ["e_back", "e_back"], ["y"]),
    ]  # fmt: skip
    x = np.random.default_rng(1).normal(0, 3, (1, 8, 6, 5)).astype(np.float32)
    done, kinds = same(model(nodes, CONSTANTS, list(x.shape), 13), drop_idle_rounding, x, tmp_path)
    assert done == ["r", "c"] and kinds.count("QuantizeLinear") == 3
