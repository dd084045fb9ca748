"""Rounding to INT8 and back by Paddle's own kernels, and the gradients that pass through it.

Paddle has no public function for these kernels; everything else of the engine calls public ones.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import _legacy_C_ops as kernels
from paddle.base import core


def fake_quantise(value: Any, absmax: Any, bits: int) -> Any:
    """A tensor rounded to the quantised values of a symmetric range; its gradient passes unchanged.

    Args:
        value: float32.
        absmax: `[1]`, what the largest quantised value stands for; values beyond it are cut off.
        bits: of a quantised value.
    """
    return _activation(value, absmax, None, None, ("bit_length", bits, "moving_rate", 0.9, "is_test", True))


def fake_quantise_following(value: Any, average: tuple[Any, Any, Any], bits: int, moving_rate: float) -> Any:
    """As `fake_quantise`, by a moving average of absmax that the tensor is first added to.

    Args:
        value: float32.
        average: absmax, weight and weighted sum of what went into it, `[1]` each; changed in place.
        bits: of a quantised value.
        moving_rate: decay, 0 to 1.
    """
    attributes = ("bit_length", bits, "moving_rate", moving_rate, "is_test", False)
    return _activation(value, *average, attributes)


def _activation(value: Any, absmax: Any, state: Any, accum: Any, attributes: tuple[Any, ...]) -> Any:
    result, *_ = kernels.fake_quantize_dequantize_moving_average_abs_max(
        value, absmax, accum, state, _result_of(value), absmax, state, accum, *attributes
    )
    return result


def _result_of(value: Any) -> Any:
    """A tensor without memory, which the kernel takes when it needs it."""
    return paddle.Tensor(value.dtype, value.shape, None, core.VarDesc.VarType.LOD_TENSOR, False)


def fake_quantise_weight(weight: Any, axis: int, bits: int) -> Any:
    """A weight rounded to the quantised values of its own absmax; its gradient passes unchanged.

    Args:
        weight: float32.
        axis: whose entries have a range each; -1: one range for all of it.
        bits: of a quantised value.
    """
    result = _result_of(weight)
    if axis < 0:
        return kernels.fake_quantize_dequantize_abs_max(
            weight, result, paddle.zeros([1]), "bit_length", bits
        )[0]
    scales = paddle.zeros([weight.shape[axis]])
    attributes = ("bit_length", bits, "quant_axis", axis)
    return kernels.fake_channel_wise_quantize_dequantize_abs_max(weight, result, scales, *attributes)[0]


def absmax_of(value: Any, non_negative: bool = False) -> float:
    """The largest absolute value of a tensor.

    Args:
        value: float32.
        non_negative: whether it has no negative values.
    """
    largest = value.max().item()
    return largest if non_negative else max(largest, -value.min().item())


def gradient_within(gradient: Any, value: Any, bound: float) -> Any:
    """A gradient, 0 where `value` is not between `-bound` and `bound`.

    Args:
        gradient: of the clipped value.
        value: before it was clipped.
        bound: above 0.
    """
    with paddle.enable_grad():
        plain = value.detach()
        plain.stop_gradient = False
        return paddle.grad(paddle.clip(plain, -bound, bound), plain, gradient)[0]
