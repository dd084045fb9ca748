"""Rounding to INT8 and back by Paddle's own kernels, and the gradients that pass through it.

Paddle has no public function for these kernels; everything else of the engine calls public ones. In dygraph they are
called, in a graph that is being traced (`engine/traced.py`) they become its operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
from paddle import _legacy_C_ops as kernels
from paddle.base import core
from paddle.base.layer_helper import LayerHelper

CLIPPED = "clipped_rounding"  # name scope of rounding whose gradient ends where it clips
ACTIVATION = "fake_quantize_dequantize_moving_average_abs_max"
_WEIGHT = "fake_quantize_dequantize_abs_max"
_WEIGHT_CHANNELS = "fake_channel_wise_quantize_dequantize_abs_max"


def fake_quantise(value: Any, absmax: Any, bits: int) -> Any:
    """A tensor rounded to the quantised values of a symmetric range; its gradient passes unchanged.

    Args:
        value: float32.
        absmax: `[1]`, what the largest quantised value stands for; values beyond it are cut off.
        bits: of a quantised value.
    """
    attributes = {"bit_length": bits, "moving_rate": 0.9, "is_test": True}
    return _activation(value, (absmax, None, None), attributes)


def fake_quantise_clipped(value: Any, absmax: Any, bits: int) -> Any:
    """As `fake_quantise`, in a graph that is traced, which makes the gradients of values that are cut off 0."""
    with paddle.static.name_scope(CLIPPED):
        return fake_quantise(value, absmax, bits)


def fake_quantise_following(
    value: Any, average: tuple[Any, Any, Any], bits: int, moving_rate: float, non_negative: bool = False
) -> Any:
    """As `fake_quantise`, by a moving average of absmax that the tensor is first added to.

    Args:
        value: float32.
        average: absmax, weight and weighted sum of what went into it, `[1]` each; changed in place.
        bits: of a quantised value.
        moving_rate: decay, 0 to 1.
        non_negative: whether it has no negative values.
    """
    attributes = {"bit_length": bits, "moving_rate": moving_rate, "is_test": False}
    if paddle.in_dynamic_mode():
        return _activation(value, average, attributes)
    # The kernel itself looks for the largest value ten times as slowly: it is shown the ends alone.
    ends = [paddle.max(value, keepdim=True)]
    if not non_negative:
        ends.append(paddle.min(value, keepdim=True))
    _activation(paddle.concat(ends) if len(ends) > 1 else ends[0], average, attributes)
    return fake_quantise(value, average[0], bits)


def _activation(value: Any, average: tuple[Any, Any, Any], attributes: Mapping[str, Any]) -> Any:
    absmax, state, accum = average
    if paddle.in_dynamic_mode():
        return kernels.fake_quantize_dequantize_moving_average_abs_max(
            value, absmax, accum, state, _result_of(value), absmax, state, accum, *_flat(attributes)
        )[0]
    inputs, outputs = {"X": value, "InScale": absmax}, {"OutScale": absmax}
    if state is not None:
        inputs.update(InState=state, InAccum=accum)
        outputs.update(OutState=state, OutAccum=accum)
    return _appended(ACTIVATION, inputs, outputs, attributes)


def _flat(attributes: Mapping[str, Any]) -> list[Any]:
    return [part for pair in attributes.items() for part in pair]


def _appended(
    op_type: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any], attributes: Mapping[str, Any]
) -> Any:
    """The result of an operator that is added to the graph which is being traced."""
    helper = LayerHelper(op_type)
    result = helper.create_variable_for_type_inference("float32")
    helper.append_op(type=op_type, inputs=inputs, outputs={"Out": result, **outputs}, attrs=dict(attributes))
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
    attributes = {"bit_length": bits} if axis < 0 else {"bit_length": bits, "quant_axis": axis}
    scales = paddle.zeros([1 if axis < 0 else weight.shape[axis]])
    if paddle.in_dynamic_mode():
        kernel = getattr(kernels, _WEIGHT if axis < 0 else _WEIGHT_CHANNELS)
        return kernel(weight, _result_of(weight), scales, *_flat(attributes))[0]
    op_type = _WEIGHT if axis < 0 else _WEIGHT_CHANNELS
    return _appended(op_type, {"X": weight}, {"OutScale": scales}, attributes)


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
    return paddle.where(value.abs() < bound, gradient, paddle.zeros_like(gradient))
