"""Paddle's functions of one tensor, in NumPy, with the defaults of its operators.

Source of formulas and defaults: Paddle 2.6, `phi/api/yaml/ops.yaml` and `phi/kernels/funcs/activation_functor.h`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]


def function_of(op_type: str, attributes: Mapping[str, Any]) -> Function | None:
    """The function that an operator applies to each value; None for an operator that is none of these."""
    make = FUNCTIONS.get(op_type)
    return None if make is None else make(attributes)


def _hard_sigmoid(values: Mapping[str, Any]) -> Function:
    slope, offset = values.get("slope", 0.2), values.get("offset", 0.5)
    return lambda x: np.clip(x * slope + offset, 0, 1)


def _hard_swish(values: Mapping[str, Any]) -> Function:
    threshold, scale, offset = (
        values.get(key, default) for key, default in (("threshold", 6.0), ("scale", 6.0), ("offset", 3.0))
    )
    return lambda x: x * np.clip(x + offset, 0, threshold) / scale


def _swish(values: Mapping[str, Any]) -> Function:
    beta = values.get("beta", 1.0)
    return lambda x: x * _sigmoid(beta * x)


def _clip(values: Mapping[str, Any]) -> Function:
    low, high = values.get("min", -np.inf), values.get("max", np.inf)
    return lambda x: np.clip(x, low, high)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))  # no overflow for large negative values


FUNCTIONS: Mapping[str, Callable[[Mapping[str, Any]], Function]] = {
    "relu": lambda values: lambda x: np.maximum(x, 0),
    "relu6": lambda values: lambda x: np.clip(x, 0, values.get("threshold", 6.0)),
    "leaky_relu": lambda values: lambda x: np.where(x > 0, x, x * values.get("alpha", 0.02)),
    "sigmoid": lambda values: _sigmoid,
    "tanh": lambda values: np.tanh,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "swish": _swish,
    "silu": lambda values: lambda x: x * _sigmoid(x),
    "clip": _clip,
}

# Operators whose results are never below 0; the last three are none of the functions above.
NEVER_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "sqrt", "softmax", "exp")
