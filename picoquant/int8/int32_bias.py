"""Scales of weights in which a convolution's bias can be stored as INT32.

The bias is stored in units of one level of the weight times one level of the input. In a channel whose inputs are
almost always zero batch-norm divides by a variance of almost nothing: its bias may not fit into INT32, or the unit
may be many levels of the result, so that rounding the bias to it would change what the channel gives.
"""

from __future__ import annotations

import numpy as np

_FELT = 0.25  # of a level of the result: what the bias may lose in rounding
_LARGEST_BIAS = 2.0**30  # half of what int32 holds, so that sums on top of it fit


def with_room_for_bias(scales: np.ndarray, bias: np.ndarray, input_step: float) -> np.ndarray:
    """Larger scales for the (dead) channels whose bias would not fit INT32 otherwise.

    Args:
        scales: value of one level of the weight, `[channels]` or `[1]`.
        bias: `[channels]`.
        input_step: value of one level of the input.
    """
    needed = np.abs(bias.astype(np.float64)) / (_LARGEST_BIAS * input_step)
    if len(scales) == 1:
        needed = needed.max(keepdims=True)
    return np.maximum(scales, needed)


def with_exact_bias(
    scales: np.ndarray, bias: np.ndarray, input_step: float, result_step: float
) -> np.ndarray:
    """Other scales for the channels whose bias would be rounded so that it is felt.

    The weights there become a little coarser, so that the bias is a whole number of units; where it is less
    than one unit, the unit becomes at most two levels of the result, and weights that no longer fit are limited:
    one level of input still moves the result through all of its levels.

    Args:
        scales: value of one level of the weight, `[channels]`; one scale for all is left as it is.
        bias: `[channels]`.
        input_step: value of one level of the input.
        result_step: value of one level of the result.
    """
    if len(scales) == 1:
        return scales
    size = np.abs(bias.astype(np.float64))
    unit = scales * input_step
    felt = np.abs(size - np.rint(size / unit) * unit) > _FELT * result_step
    limited = np.where(felt & (size < unit), np.minimum(unit, 2 * result_step), unit)
    count = np.floor(size / limited)
    exact = np.where(felt & (count >= 1), size / np.maximum(count, 1), limited)
    return np.where(exact == unit, scales, exact / input_step)
