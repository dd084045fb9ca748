"""A Paddle program as an ONNX model, operator by operator; tensors keep Paddle's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from picoquant.backends.onnx.translation.operators import RULES
from picoquant.backends.onnx.translation.writer import Writer
from picoquant.errors import ToolError
from picoquant.paddle_program.graph import Graph, Tensor, read_graph
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program

OLDEST_OPSET = 11
_TYPES = {
    "float32": onnx.TensorProto.FLOAT, "int32": onnx.TensorProto.INT32, "int64": onnx.TensorProto.INT64,
    "bool": onnx.TensorProto.BOOL,
}  # fmt: skip
# The IR version that came with an opset or before it.
_IR = {11: 6, 12: 7, 13: 7}


def translate(model: Path, params: Path, opset: int) -> Any:
    """Convert a float program.

    Args:
        model, params: a Paddle inference model.
        opset: 11 or later.

    Returns: a checked `onnx.ModelProto`.

    Raises: `ToolError` naming an operator that has no ONNX form here.
    """
    program = read_program(model)
    return convert(read_graph(program), read_params(program, params), opset, str(model))


def convert(graph: Graph, values: Mapping[str, np.ndarray], opset: int, where: str) -> Any:
    """Convert a float network.

    Args:
        graph: of its program.
        values: its stored tensors, by name.
        opset: 11 or later.
        where: names the program in messages.

    Returns: a checked `onnx.ModelProto`.

    Raises: `ToolError` naming an operator that has no ONNX form here.
    """
    writer = Writer(graph, opset)
    used = {name for op in graph.operators for _, name in op.inputs}
    for name, value in values.items():
        if name in used:
            writer.constants[name] = value
    for op in graph.operators:
        rule = RULES.get(op.op_type)
        if rule is None:
            raise ToolError(
                f"{where}: {op.op_type} ({op.name}) is not converted without paddle2onnx, which is not installed and "
                "has wheels for Python 3.12 at most"
            )
        rule(writer, op)
    ends = [[_value(graph.tensor(name)) for name in names] for names in (graph.inputs, graph.outputs)]
    stored = [numpy_helper.from_array(value, name) for name, value in writer.constants.items()]
    made = helper.make_graph(writer.nodes, "picodet", *ends, initializer=stored)
    version = helper.make_opsetid("", opset)
    found = helper.make_model(
        made, opset_imports=[version], ir_version=_IR.get(opset, 8), producer_name="picoquant"
    )
    onnx.checker.check_model(found)
    return found


def _value(tensor: Tensor) -> Any:
    sizes: Sequence[Any] = [
        size if size > 0 else "N" if place == 0 else None for place, size in _sized(tensor)
    ]
    return helper.make_tensor_value_info(tensor.name, _TYPES[tensor.dtype or "float32"], sizes)


def _sized(tensor: Tensor) -> Any:
    return enumerate(tensor.shape or ())
