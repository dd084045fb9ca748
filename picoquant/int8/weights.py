"""Weights in INT8 whose biases are whole numbers, as integer hardware adds them.

A convolution on integers adds its bias in INT32, in units of one level of the weight times one of the input
(`int8.int32_bias`). Paddle's runtime adds biases in float; with whole ones it computes what integer runtimes
compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.int8.int32_bias import with_exact_bias, with_room_for_bias
from picoquant.int8.operators import QuantizedOperator
from picoquant.int8.tie_avoidance import tie_free_scales
from picoquant.paddle_program.batch_norm_folding import CONVOLUTIONS, stored_bias
from picoquant.paddle_program.static import read_variable

_SMALLEST = 1e-8  # range of a channel of zeros; PaddleSlim divides by this, too


@dataclass(frozen=True)
class QuantisedWeight:
    """A weight as INT8 holds it, and the bias behind it.

    Attributes:
        levels: whole numbers as int8, in Paddle's layout.
        largest: the value of the largest level (127), float32, one for each channel or `[1]`.
        bias: name of the stored bias that is added to the result; None where there is none.
        bias_value: what it becomes, float32.
    """

    levels: np.ndarray
    largest: np.ndarray
    bias: str | None = None
    bias_value: np.ndarray | None = None


def quantise_weight(
    weight: np.ndarray, axis: int, bits: int, largest: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight to whole numbers.

    Args:
        weight: float32, any shape.
        axis: the axis with a range for each index; -1: one range.
        bits: of a number; 8 gives -127 to 127.
        largest: the ranges, one for each index; None: the largest absolute values.

    Returns: the numbers as int8, and the ranges.
    """
    top = float(2 ** (bits - 1) - 1)
    if largest is None:
        other = tuple(i for i in range(weight.ndim) if i != axis) if axis >= 0 else None
        largest = np.maximum(np.abs(weight).max(axis=other), np.float32(_SMALLEST)).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    levels = weight / largest.reshape(shape if axis >= 0 else ()) * np.float32(top)
    return np.clip(np.rint(levels), -top, top).astype(np.int8), largest.reshape(-1)


def quantise_operator(
    block: Any, scope: Any, operator: QuantizedOperator, ranges: Mapping[str, float], bits: tuple[int, int]
) -> QuantisedWeight:
    """Round an operator's weight, and its bias to whole numbers of units; the scales are tie-free (`tie_free.py`).

    Args:
        block: of the float program, in which a bias follows its convolution (`folding.stored_bias`).
        scope: its variables.
        operator: what is to run in INT8. A weight that several operators take keeps its range.
        ranges: largest absolute value of each activation.
        bits: of weights and of activations.
    """
    weight = read_variable(scope, operator.weight)
    levels, largest = quantise_weight(weight, operator.axis, bits[0])
    layer = _layer(block, operator)
    if layer is None:
        return QuantisedWeight(levels, largest)
    tops = [2 ** (width - 1) - 1 for width in bits]
    input_step, scales = ranges[operator.activation] / tops[1], largest / tops[0]
    result_step = ranges.get(layer.result, 0.0) / tops[1]
    bias = None if layer.bias is None else read_variable(scope, layer.bias)
    if bias is not None:
        scales = with_room_for_bias(scales, bias, input_step)
        if result_step:
            scales = with_exact_bias(scales, bias, input_step, result_step)
    if (scales * tops[0] != largest).any():
        largest = (scales * tops[0]).astype(np.float32)
        levels, largest = quantise_weight(weight, operator.axis, bits[0], largest)
    if result_step:  # the levels stay: they are what training, or calibration, has found
        scales = tie_free_scales(largest / tops[0], input_step, result_step)
        largest = (scales * tops[0]).astype(np.float32)
    if bias is None:
        return QuantisedWeight(levels, largest)
    unit = largest.astype(np.float64) / tops[0] * input_step
    return QuantisedWeight(levels, largest, layer.bias, (np.rint(bias / unit) * unit).astype(np.float32))


@dataclass(frozen=True)
class _Layer:
    """A convolution with what is computed with it.

    Attributes:
        bias: the stored bias that only this operator's result gets.
        result: the tensor that leaves the layer.
    """

    bias: str | None
    result: str


def _layer(block: Any, operator: QuantizedOperator) -> _Layer | None:
    """None where the weight or the bias has other users, and for what is no convolution."""
    if operator.kind not in CONVOLUTIONS or operator.axis not in (0, -1):
        return None
    if len(_users(block, operator.weight)) > 1:
        return None
    result, after = operator.output, _users(block, operator.output)
    bias = stored_bias(block, after[0]) if len(after) == 1 else None
    if bias is not None:
        if len(_users(block, bias)) > 1:
            return None
        result = after[0].output("Out")[0]
        after = _users(block, result)
    if len(after) == 1 and after[0].type in ("relu", "relu6"):
        result = after[0].output("Out")[0]
    return _Layer(bias, result)


def _users(block: Any, name: str) -> list[Any]:
    return [op for op in block.ops if name in op.input_arg_names]
