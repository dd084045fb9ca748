"""Hard-swishes whose gate is a Clip of bytes, in ONNX Runtime: for every integer what Paddle rounds to."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.graph import Graph
from picoquant.backends.onnx.ort.gates import clip_gates
from picoquant.backends.onnx.parity import run_onnx
from picoquant.backends.onnx.runtime import session_options
from tests.backends.onnx.test_activations import model


def swish(steps, zero, result, result_zero=128, clipped=True, more=()):
    """A HardSwish between tensors in uint8: 3 is `steps` steps of `x`; Clips that keep 0 away where `clipped`."""
    constants = {
        "s": np.float32(3 / steps), "z": np.uint8(zero), "r": np.float32(result), "rz": np.uint8(result_zero),
        "one": np.uint8(1), "top": np.uint8(255),
    }  # fmt: skip
    nodes = []
    for name, made, scaling in (("x", "x", ["s", "z"]), ("h", "y.float", ["r", "rz"])):
        if name == "h":
            nodes.append(("HardSwish", ["x.back"], ["y.float"]))
        nodes.append(("QuantizeLinear", [made, *scaling], [f"{name}.rounded"]))
        if clipped:
            nodes.append(("Clip", [f"{name}.rounded", "one", "top"], [f"{name}.uint8"]))
        held = f"{name}.uint8" if clipped else f"{name}.rounded"
        nodes.append(("DequantizeLinear", [held, *scaling], ["x.back" if name == "x" else "y.back"]))
    nodes += [*more, ("Identity", [more[-1][2][0] if more else "y.back"], ["y"])]
    return model(nodes, constants, [1, 4, 16, 16], 14)


def every_integer(made):
    """Values for `x`: each integer four times, in a random order."""
    scale, zero = (onnx.numpy_helper.to_array(item) for item in made.graph.initializer[:2])
    integers = np.random.default_rng(0).permutation(np.repeat(np.arange(256), 4))
    return ((integers - float(zero)) * scale).astype(np.float32).reshape(1, 4, 16, 16)


def kinds_as_run(path):
    """Operators that ONNX Runtime runs."""
    options = session_options(1)
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


CASES = {
    "symmetric": (swish(60, 128, 0.05), ["QLinearMul", "Clip"]),
    "symmetric, to 3": (swish(127, 128, 0.03), ["QLinearMul", "Clip"]),
    "symmetric, never closed": (swish(128, 128, 0.0317), ["QLinearMul", "Clip"]),
    "closed at the lowest": (swish(80, 80, 0.0317, 12, clipped=False), ["QLinearMul", "Clip"]),
    "from below -3": (swish(76, 102, 0.0317, 12, clipped=False), ["QLinearMul", "Clip"]),
    "never open": (swish(150, 150, 0.0113, 38, clipped=False), ["QLinearMul"]),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_rounded_once(name, tmp_path):
    made, expected = CASES[name]
    x = every_integer(made)
    write_onnx(made, tmp_path / "float.onnx")
    (wanted,) = run_onnx(tmp_path / "float.onnx", {"x": x})
    graph = Graph(made)
    assert clip_gates(graph, {"y"}) == ["y"]
    write_onnx(graph.finish(), tmp_path / "bytes.onnx")
    (found,) = run_onnx(tmp_path / "bytes.onnx", {"x": x})
    np.testing.assert_array_equal(found, wanted)
    assert len(np.unique(found)) > 50
    kinds = kinds_as_run(tmp_path / "bytes.onnx")
    assert sorted(kinds) == sorted(["QuantizeLinear", *expected, "DequantizeLinear"])


OTHER = [("Add", ["y.back", "x.back"], ["sum"])]


def test_clips_that_are_reached_stay(tmp_path):
    coarse = swish(60, 128, 0.002)  # its least, -0.375, is below -127 steps
    graph = Graph(coarse)
    assert clip_gates(graph, {"y"}) == ["y"]
    assert sorted(node.output[0] for node in graph.nodes if node.op_type == "Clip") == [
        "h.uint8",
        "y.float.gate.uint8",
    ]
    taken = Graph(swish(60, 128, 0.05, more=OTHER))  # another reads x: it sees what the Clip keeps away
    clip_gates(taken, {"y"})
    assert "x.uint8" in [node.output[0] for node in taken.nodes if node.op_type == "Clip"]


def test_what_is_not_asked_for_stays():
    graph = Graph(swish(60, 128, 0.05))
    assert clip_gates(graph, {"other"}) == [] and clip_gates(Graph(swish(60.5, 128, 0.05)), {"y"}) == []
    assert [node.op_type for node in graph.nodes].count("HardSwish") == 1
    in_float = Graph(model([("HardSwish", ["x"], ["y"])], {}, [1, 4, 16, 16], 14))
    assert clip_gates(in_float, {"y"}) == []
