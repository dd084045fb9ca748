"""Biases of convolutions as INT32, and scales of weights in which they can be.

A bias is stored in steps of the weight's scale times the input's. In a channel whose inputs are almost always zero
batch-norm divides by a variance of almost nothing: its bias may not fit into INT32, or the step may be many steps of
the result, so that rounding the bias to it would change what the channel computes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from picoquant.int8.network import QuantizedOperator
from picoquant.int8.quant_params import QuantParams

INT32 = (-(2**31), 2**31 - 1)
_EFFECTIVE = 0.25  # of a step of the result: what the bias may lose in rounding
_LARGEST_BIAS = 2.0**30  # half of what int32 holds, so that sums on top of it fit


def quantise_bias(
    operator: QuantizedOperator, bias: np.ndarray, input_scale: float, result_scale: float | None
) -> QuantizedOperator:
    """An operator with its bias as integers; in channels where it would not fit, in other scales.

    Args:
        operator: a convolution without `bias_integers`.
        bias: `[channels]`, float.
        input_scale: of the activation.
        result_scale: of the layer's result; None where it is not known.
    """
    scales = operator.scales
    fitting = with_room_for_bias(scales, bias, input_scale)
    if result_scale:
        fitting = with_exact_bias(fitting, bias, input_scale, result_scale)
    if (fitting != scales).any():
        integers = in_other_scales(operator.integers, scales, fitting)
        params = QuantParams(
            fitting if operator.params.axis >= 0 else float(fitting[0]), axis=operator.params.axis
        )
        operator = replace(operator, integers=integers, params=params)
    whole = np.rint(bias.astype(np.float64) / (operator.scales * input_scale))
    return replace(operator, bias_integers=np.clip(whole, *INT32).astype(np.int64))


def in_other_scales(integers: np.ndarray, scales: np.ndarray, fitting: np.ndarray) -> np.ndarray:
    """The integers, int8, that stand for the same weight in other scales.

    Args:
        integers: int8, output channels on axis 0.
        scales, fitting: before and after, `[channels]` or `[1]`; what does not fit is limited.
    """
    ratio = (scales / fitting).reshape([-1] + [1] * (integers.ndim - 1))
    return np.clip(np.rint(integers * ratio), -127, 127).astype(np.int8)


def with_room_for_bias(scales: np.ndarray, bias: np.ndarray, input_scale: float) -> np.ndarray:
    """Larger scales for the (dead) channels whose bias would not fit INT32 otherwise.

    Args:
        scales: of the weight, `[channels]` or `[1]`.
        bias: `[channels]`.
        input_scale: of the activation.
    """
    needed = np.abs(bias.astype(np.float64)) / (_LARGEST_BIAS * input_scale)
    if len(scales) == 1:
        needed = needed.max(keepdims=True)
    return np.maximum(scales, needed)


def with_exact_bias(
    scales: np.ndarray, bias: np.ndarray, input_scale: float, result_scale: float
) -> np.ndarray:
    """Other scales for the channels whose bias would be rounded with an effect on the result.

    The weights there become a little coarser, so that the bias is a whole number of steps; where it is less
    than one step, the step becomes at most two steps of the result, and weights that no longer fit are limited:
    one step of the input still moves the result through all of its integers.

    Args:
        scales: of the weight, `[channels]`; one scale for all is left as it is.
        bias: `[channels]`.
        input_scale: of the activation.
        result_scale: of the layer's result.
    """
    if len(scales) == 1:
        return scales
    size = np.abs(bias.astype(np.float64))
    step = scales * input_scale
    effective = np.abs(size - np.rint(size / step) * step) > _EFFECTIVE * result_scale
    limited = np.where(effective & (size < step), np.minimum(step, 2 * result_scale), step)
    count = np.floor(size / limited)
    exact = np.where(effective & (count >= 1), size / np.maximum(count, 1), limited)
    return np.where(exact == step, scales, exact / input_scale)
