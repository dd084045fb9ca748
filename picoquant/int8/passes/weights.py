"""Weights as integers, with biases that are whole numbers of steps, as integer hardware adds them.

A convolution on integers adds its bias in INT32, in steps of the weight's scale times the input's
(`int32_bias.py`). Paddle's runtime adds biases in float; with whole ones it computes what integer runtimes compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.passes.int32_bias import with_exact_bias, with_room_for_bias
from picoquant.int8.passes.tie_avoidance import largest_middle, tie_free_scales
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Graph
from picoquant.paddle_program.layers import BATCH_NORM, CONVOLUTIONS, fused_layer

_SMALLEST = 1e-8  # range of a channel of zeros; PaddleSlim divides by this, too


@dataclass(frozen=True, eq=False)
class QuantizedWeight:
    """A weight in INT8, and the bias behind it.

    Attributes:
        integers: int8, in Paddle's layout.
        absmax: the value of the largest integer (127), float32, `[channels]` or `[1]`.
        bias: name of the stored bias that is added to the result; None where there is none.
        bias_value: its value, whole numbers of the bias scale, float32.
    """

    integers: np.ndarray
    absmax: np.ndarray
    bias: str | None = None
    bias_value: np.ndarray | None = None


def quantise_weight(
    weight: np.ndarray, axis: int, bits: int, absmax: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Round a weight to integers.

    Args:
        weight: float32, any shape.
        axis: the axis with a range for each index; -1: one range.
        bits: of an integer; 8 gives -127 to 127.
        absmax: the ranges, one for each index; None: the largest absolute values.

    Returns: the integers as int8, and the ranges, float32 `[channels]` or `[1]`.
    """
    largest = float(2 ** (bits - 1) - 1)
    if absmax is None:
        other = tuple(i for i in range(weight.ndim) if i != axis) if axis >= 0 else None
        absmax = np.maximum(np.abs(weight).max(axis=other), np.float32(_SMALLEST)).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    integers = weight / absmax.reshape(shape if axis >= 0 else ()) * np.float32(largest)
    return np.clip(np.rint(integers), -largest, largest).astype(np.int8), absmax.reshape(-1)


def dequantise_weight(integers: np.ndarray, absmax: np.ndarray, axis: int, bits: int = 8) -> np.ndarray:
    """The values that `quantise_weight`'s result stands for, float32."""
    shape = [-1 if i == axis else 1 for i in range(integers.ndim)]
    scale = (absmax / (2 ** (bits - 1) - 1)).reshape(shape if axis >= 0 else ())
    return (integers * scale).astype(np.float32)


def rounded_weight(value: np.ndarray, axis: int, bits: int = 8) -> np.ndarray:
    """A weight as INT8 holds it, float32."""
    return dequantise_weight(*quantise_weight(value, axis, bits), axis, bits)


def quantise_operator(
    graph: Graph,
    values: Mapping[str, np.ndarray],
    operator: QuantizableOperator,
    ranges: Mapping[str, float],
    bits: tuple[int, int],
    zero_points: Mapping[str, int] | None = None,
) -> QuantizedWeight:
    """Round an operator's weight, and its bias to whole steps; no result lies near a tie (`tie_avoidance.py`).

    Args:
        graph: the float network, in which a bias follows its convolution.
        values: its stored tensors, by name.
        operator: what is to run in INT8. A weight that several operators share keeps its range.
        ranges: of each activation the value of as many steps as the largest integer has.
        bits: of weights and of activations.
        zero_points: of the activations that are not symmetric.
    """
    weight = values[operator.weight]
    integers, absmax = quantise_weight(weight, operator.axis, bits[0])
    alone = _computed_alone(graph, operator)
    if alone is None:
        return QuantizedWeight(integers, absmax)
    name, result = alone
    largest = [2 ** (width - 1) - 1 for width in bits]
    input_scale, scales = ranges[operator.activation] / largest[1], absmax / largest[0]
    result_scale = ranges.get(result, 0.0) / largest[1]
    bias = None if name is None else values[name]
    if bias is not None:
        scales = with_room_for_bias(scales, bias, input_scale)
        if result_scale:
            scales = with_exact_bias(scales, bias, input_scale, result_scale)
    if (scales * largest[0] != absmax).any():
        absmax = (scales * largest[0]).astype(np.float32)
        integers, absmax = quantise_weight(weight, operator.axis, bits[0], absmax)
    if result_scale:  # the integers stay: they are what training, or calibration, has found
        middle = largest_middle(
            QuantParams.of_range(ranges[result], bits[1], (zero_points or {}).get(result))
        )
        scales = tie_free_scales(absmax / largest[0], input_scale, result_scale, middle)
        absmax = (scales * largest[0]).astype(np.float32)
    if bias is None:
        return QuantizedWeight(integers, absmax)
    bias_scale = absmax.astype(np.float64) / largest[0] * input_scale
    whole = (np.rint(bias / bias_scale) * bias_scale).astype(np.float32)
    return QuantizedWeight(integers, absmax, name, whole)


def _computed_alone(graph: Graph, operator: QuantizableOperator) -> tuple[str | None, str] | None:
    """The bias (None without one) and the result of a convolution whose weight and bias nothing else uses.

    None for every other operator. The result is that of the bias or of the activation behind it; a batch-norm that
    was not folded ends the layer before it.
    """
    if operator.op_type not in CONVOLUTIONS or operator.axis not in (0, -1):
        return None
    if len(graph.users(operator.weight)) > 1:
        return None
    layer = fused_layer(graph, graph.producer(operator.output))
    if layer.bias is not None and len(graph.users(layer.bias)) > 1:
        return None
    result = operator.output
    for op in layer.fused:
        if op.op_type == BATCH_NORM:
            break
        result = op.name
    return layer.bias, result
