"""The maps that a network's outputs are made of."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.paddle_lite.output_maps import output_maps, rows
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Graph, Operator, Tensor

SHAPES = {"map": (1, 3, 2, 4), "flat": (1, 3, 8), "turned": (1, 8, 3), "out": (1, 8, 3)}
AXES = {"axis": (0, 2, 1)}


def operator(kind, source, result, **attributes):
    return Operator(result, kind, (("X0", source),), (("Out0", result),), attributes)


def graph(steps, shapes=SHAPES, outputs=("out",)):
    first = Operator("map", "conv2d", (("Input0", "image"),), (("Output0", "map"),), {})
    tensors = {name: Tensor(name, shape, "float32", False) for name, shape in shapes.items()}
    return Graph((first, *steps), tensors, ("image",), outputs)


STEPS = (
    operator("reshape2", "map", "flat"),
    operator("transpose2", "flat", "turned", **AXES),
    operator("scale", "turned", "out", scale=1.0, bias=0.0),
)


def same(name):
    return QuantParams(0.5)


def test_reshape_and_transpose_are_left_out():
    found = output_maps(graph(STEPS), same)["out"]
    assert found.name == "map" and [op.name for op in found.left_out] == ["out", "turned", "flat"]
    # transposed first, then reshaped: the same rows
    shapes = {"map": (1, 3, 2, 4), "last": (1, 2, 4, 3), "out": (1, 8, 3)}
    steps = (operator("transpose2", "map", "last", axis=(0, 2, 3, 1)), operator("reshape2", "last", "out"))
    assert output_maps(graph(steps, shapes), same) == {}  # the tensor before the output has four axes itself
    values = np.arange(24).reshape(3, 2, 4)
    assert rows(values).tolist() == [[cell, 8 + cell, 16 + cell] for cell in range(8)]


@pytest.mark.parametrize(
    "steps",
    [
        (operator("reshape2", "map", "flat"), operator("scale", "flat", "out")),  # no transpose: no rows
        (*STEPS[:2], operator("scale", "turned", "out", scale=2.0)),
        (*STEPS[:2], operator("sigmoid", "turned", "out")),
        (*STEPS, operator("sigmoid", "turned", "other")),  # another needs what would be left out
    ],
)
def test_other_outputs_stay_as_they_are(steps):
    shapes = SHAPES if steps[1].op_type == "transpose2" else {**SHAPES, "out": (1, 3, 8)}
    assert output_maps(graph(steps, {**shapes, "other": (1, 8, 3)}), same) == {}


def test_scales_between_must_be_one():
    def other(name):
        return QuantParams(0.25 if name == "turned" else 0.5)

    assert output_maps(graph(STEPS), other) == {}
    assert list(output_maps(graph(STEPS), lambda name: None)) == ["out"]  # a float model has none


def test_an_output_of_an_output():
    assert output_maps(graph(STEPS, outputs=("out", "flat")), same) == {}
