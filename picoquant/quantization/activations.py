"""What follows a tensor, as a function: the error that counts is the one behind an activation.

Below -3 a hard-swish gives 0, whatever its input is: that part of the input needs no levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


def activation_of(op: Any) -> Function | None:
    """The function that an operator applies to each value; None when it does something else."""

    def number(name: str, default: float) -> float:
        return float(op.attr(name)) if op.has_attr(name) else default

    if op.type == "relu":
        return lambda x: np.maximum(x, 0)
    if op.type == "relu6":
        top = number("threshold", 6.0)
        return lambda x: np.clip(x, 0, top)
    if op.type == "leaky_relu":
        slope = number("alpha", 0.02)
        return lambda x: np.where(x < 0, slope * x, x)
    if op.type == "hard_sigmoid":
        slope, offset = number("slope", 1 / 6), number("offset", 0.5)
        return lambda x: np.clip(slope * x + offset, 0, 1)
    if op.type == "hard_swish":
        top, scale, offset = number("threshold", 6.0), number("scale", 6.0), number("offset", 3.0)
        return lambda x: x * np.clip(x + offset, 0, top) / scale
    if op.type == "sigmoid":
        return _sigmoid
    if op.type == "swish":
        beta = number("beta", 1.0)
        return lambda x: x * _sigmoid(beta * x)
    if op.type == "silu":
        return lambda x: x * _sigmoid(x)
    if op.type == "tanh":
        return np.tanh
    if op.type == "clip":
        low, high = number("min", -np.inf), number("max", np.inf)
        return lambda x: np.clip(x, low, high)
    return None


def function_behind(program: Any, name: str) -> Function | None:
    """The activation that alone uses a tensor; None when something needs the tensor's own values."""
    block = program.global_block()
    users = [op for op in block.ops if name in op.input_arg_names]
    return activation_of(users[0]) if len(users) == 1 else None


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))
