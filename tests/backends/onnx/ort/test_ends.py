"""Clips that nothing reaches round hard-swishes on integers, against the graph as it was: every bit the same."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.onnx.graph import Graph
from picoquant.backends.onnx.ort.ends import drop_unreached_clips
from tests.backends.onnx.ort.test_layout import same
from tests.backends.onnx.test_activations import model

STEP, GATE = (
    np.float32(0.05),
    np.float32(6 / 127),
)  # of x, which reaches 6.35; of the gate, before it is divided by 6


def rounded(name, scale, ends, zero="z"):
    """What rounds `name` into `name.back`, within ends."""
    return [
        ("QuantizeLinear", [name, scale, zero], [f"{name}.q"]),
        ("Clip", [f"{name}.q", *ends], [f"{name}.c"]),
        ("DequantizeLinear", [f"{name}.c", scale, zero], [f"{name}.back"]),
    ]


def swish(slopes, result=0.3, as_sum=False, more=()):
    """`y = x * gate(x)`, the gate a convolution with `slopes`, or `x + 3` as a sum."""
    slopes = np.float64(slopes)
    scales = np.float32(slopes / 100)
    constants = {
        "s": STEP, "g": GATE, "r": np.float32(result), "z": np.uint8(128), "z0": np.uint8(0),
        "one": np.uint8(1), "low": np.uint8(0), "high": np.uint8(127), "top": np.uint8(255),
        "w": np.full((len(slopes), 1, 1, 1), 100, np.int8), "ws": scales, "wz": np.zeros(len(slopes), np.int8),
        "b": np.rint(3 / (scales * STEP)).astype(np.int32), "bs": scales * STEP,
        "three": np.uint8(127), "threes": np.float32(3 / 127),
    }  # fmt: skip
    gate = [
        ("DequantizeLinear", ["w", "ws", "wz"], ["wd"], {"axis": 0}),
        ("DequantizeLinear", ["b", "bs"], ["bd"], {"axis": 0}),
        ("Conv", ["x.back", "wd", "bd"], ["gate"], {"group": len(slopes)}),
    ]  # fmt: skip
    if as_sum:
        gate = [
            ("DequantizeLinear", ["three", "threes", "z0"], ["offset"]),
            ("Add", ["x.back", "offset"], ["gate"]),
        ]
    nodes = [
        *rounded("x", "s", ["one", "top"]), *gate, *rounded("gate", "g", ["low", "high"], "z0"),
        ("Mul", ["x.back", "gate.back"], ["m"]), *rounded("m", "r", ["one", "top"]), *more,
    ]  # fmt: skip
    nodes.append(("Identity", ["m.back" if not more else more[-1][2][0]], ["y"]))
    return model(nodes, constants, [1, len(slopes), 32, 32], 13)


OTHER = [("Add", ["m.back", "x.back"], ["sum"])]


@pytest.mark.parametrize(
    ("made", "dropped"),
    [
        (swish([1.0, 0.6, 2.0]), ["m.c", "x.c"]),
        (swish([1.0, 1.0], as_sum=True), ["m.c", "x.c"]),
        (swish([1.0, 0.3, 2.0]), ["m.c"]),  # 3 - 0.3 * 6.35: open at the lower end
        (swish([1.0, 0.6, 2.0], result=0.02), ["x.c"]),  # -2.25 / 0.6 is below -127 * 0.02
        (swish([1.0, 0.3], result=0.02), []),
        (swish([1.0, 0.6, 2.0], more=OTHER), []),  # what takes x, too, sees all of it
    ],
    ids=["convolution", "sum", "open", "coarse", "both", "taken by another"],
)
def test_what_is_reached_stays(made, dropped, tmp_path):
    shape = [dim.dim_value for dim in made.graph.input[0].type.tensor_type.shape.dim]
    x = np.linspace(-9, 9, int(np.prod(shape)), dtype=np.float32)  # every integer, and what saturates
    x = np.random.default_rng(0).permutation(x).reshape(shape)
    found = []
    graph = same(made, lambda graph: found.extend(drop_unreached_clips(graph)), x, tmp_path)
    assert sorted(found) == dropped
    clips = {node.output[0] for node in graph.nodes if node.op_type == "Clip"}
    assert clips == {"x.c", "gate.c", "m.c"} - set(dropped)


def test_products_that_are_no_hard_swish_stay():
    graph = Graph(swish([1.0, 1.0]))
    conv = next(node for node in graph.nodes if node.op_type == "Conv")
    graph.constants["w"] = np.full((2, 2, 1, 1), 100, np.int8)  # a gate of all channels
    conv.attribute.clear()
    assert drop_unreached_clips(graph) == []
