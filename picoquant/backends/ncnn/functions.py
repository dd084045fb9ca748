"""Functions of single values: as ncnn's layers, and as what becomes part of its convolutions."""

from __future__ import annotations

from typing import Any

from picoquant.backends.ncnn.files import Value
from picoquant.errors import ToolError
from picoquant.paddle_program.graph import Operator

_ACTIVATION, _PARAMETERS = 9, 10  # of ncnn's convolutions
_FUSED = {"relu": 1, "leaky_relu": 2, "relu6": 3, "sigmoid": 4, "hard_swish": 6}  # values of the first
HARD_SWISH: dict[int, Value] = {_ACTIVATION: 6, _PARAMETERS: [1 / 6, 0.5]}


def fused_activation(op: Operator) -> dict[int, Value] | None:
    """A convolution's parameters for a function behind it; None where it has none for it."""
    if op.op_type not in _FUSED:
        return None
    params: list[Any] = list(function_layer(op)[1].values())
    return {_ACTIVATION: _FUSED[op.op_type], **({_PARAMETERS: params} if params else {})}


def function_layer(op: Operator) -> tuple[str, dict[int, Value]]:
    """ncnn's layer for a function of single values, with its parameters.

    Raises: `ToolError` for a hard-swish that is not `x * clip(x * a + b, 0, 1)`.
    """
    values = op.attributes
    if op.op_type == "relu6":
        return "Clip", {0: 0.0, 1: float(values.get("threshold", 6.0))}
    if op.op_type == "leaky_relu":
        return "ReLU", {0: float(values.get("alpha", 0.02))}
    if op.op_type == "hard_sigmoid":
        return "HardSigmoid", {0: float(values.get("slope", 0.2)), 1: float(values.get("offset", 0.5))}
    if op.op_type == "hard_swish":
        scale, offset = values.get("scale", 6.0), values.get("offset", 3.0)
        if values.get("threshold", 6.0) != scale:
            raise refused(op, "its threshold is not its scale")
        return "HardSwish", {0: 1 / scale, 1: offset / scale}
    return {"relu": "ReLU", "sigmoid": "Sigmoid", "tanh": "TanH"}[op.op_type], {}


def refused(op: Operator, what: str) -> ToolError:
    """Why an operator cannot be written."""
    return ToolError(f"ncnn's files cannot hold {op.op_type} {op.name}: {what}")
