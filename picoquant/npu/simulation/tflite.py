"""The integer arithmetic of TFLite's reference kernels, where it is not one exact product rounded once.

Source: TensorFlow Lite, `kernels/internal/common.h` (`MultiplyByQuantizedMultiplier`, rounding twice),
`kernels/internal/reference/add.h`, `hard_swish.h` and `leaky_relu.h`, `kernels/reduce.cc` (mean), `activations.cc`
(tables). All functions take and return quantised values, see `arithmetic.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from picoquant.errors import ToolError
from picoquant.int8.quant_params import QuantParams

BITS = 31  # of a multiplier
_ADD_SHIFT = 20  # both terms of a sum are shifted to the left by so much
_HIRES = 7  # a hard-swish computes with so many bits more
_INT16 = (-(2**15), 2**15 - 1)


def fixed_point(factor: float) -> tuple[int, int]:
    """A factor as TFLite's `QuantizeMultiplier` has it: 31 bits, and the power of two behind them."""
    fraction, exponent = math.frexp(factor)
    number = round(fraction * 2**BITS)
    if number == 2**BITS:
        number, exponent = number // 2, exponent + 1
    return (0, 0) if exponent < -31 else (number, exponent)


def multiplied(numbers: np.ndarray, number: np.ndarray | int, exponent: np.ndarray | int) -> np.ndarray:
    """INT32 numbers times `number * 2**(exponent - 31)`, rounded after the product and after the shift.

    Args:
        numbers: int64 within INT32, any shape.
        number, exponent: see `fixed_point`, one or an array that broadcasts.
    """
    exponent = np.asarray(exponent, np.int64)
    high = ((numbers << np.maximum(exponent, 0)) * number + (1 << 30)) >> 31
    return divided_by_power(high, np.maximum(-exponent, 0))


def divided_by_power(numbers: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """`numbers / 2**shift`, halves away from zero."""
    mask = (np.int64(1) << np.asarray(shift, np.int64)) - 1
    return (numbers >> shift) + ((numbers & mask) > (mask >> 1) + (numbers < 0))


def add(
    first: np.ndarray,
    second: np.ndarray,
    sources: Sequence[QuantParams],
    result: QuantParams,
    limits: tuple[int, int],
) -> np.ndarray:
    """The sum of two tensors: each is rounded to 20 bits more than it has, then their sum to the result."""
    twice = 2 * max(source.scale for source in sources)
    terms = [
        multiplied(term.astype(np.int64) << _ADD_SHIFT, *fixed_point(source.scale / twice))
        for term, source in zip((first, second), sources)
    ]
    total = multiplied(terms[0] + terms[1], *fixed_point(twice / (2**_ADD_SHIFT * result.scale)))
    return np.clip(total, *limits).astype(np.int16)


def mean_of_image(image: np.ndarray, source: QuantParams, result: QuantParams) -> np.ndarray:
    """The mean of each channel of `[1, C, H, W]`, `[1, C, 1, 1]`: the division is part of the multiplier."""
    sums, count = image.astype(np.int64).sum(axis=(2, 3), keepdims=True), image.shape[2] * image.shape[3]
    number, exponent = fixed_point(source.scale / result.scale)
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    number, exponent = (number << shift) // count, exponent - shift
    found = multiplied(sums, number, exponent)
    return np.clip(found, result.low, result.high).astype(np.int16)


def function_table(
    op_type: str,
    attributes: Mapping[str, Any],
    function: Callable[[np.ndarray], np.ndarray],
    source: QuantParams,
    result: QuantParams,
) -> np.ndarray:
    """What a function of one tensor gives for each of its integers, from the lowest on, int16.

    Raises: `ToolError` for a function that TFLite has no integer kernel for.
    """
    integers = np.arange(source.low, source.high + 1, dtype=np.int64)
    if op_type == "hard_swish":
        found = _hard_swish(integers, source.scale, result.scale)
    elif op_type in ("relu", "relu6", "leaky_relu"):
        same = multiplied(integers, *fixed_point(source.scale / result.scale))
        found = same
        if op_type == "leaky_relu":
            slope = float(np.float32(attributes.get("alpha", 0.02)))
            found = np.where(
                integers >= 0, same, multiplied(integers, *fixed_point(source.scale * slope / result.scale))
            )
        else:
            highest = attributes.get("threshold", 6.0) if op_type == "relu6" else math.inf
            found = np.clip(same, 0, min(result.high, _away(highest / result.scale)))
    elif op_type in ("sigmoid", "tanh"):
        found = _away(function(integers * source.scale) / result.scale)
    elif op_type == "hard_sigmoid":
        return _hard_sigmoid(integers, attributes, source, result)
    else:
        raise ToolError(f"TFLite has no integer kernel for {op_type}")
    return np.clip(found, result.low, result.high).astype(np.int16)


def _hard_sigmoid(
    integers: np.ndarray, attributes: Mapping[str, Any], source: QuantParams, result: QuantParams
) -> np.ndarray:
    """The product with the slope, limited by its range, plus the offset: TFLite has no operator of that name."""
    slope, offset = attributes.get("slope", 0.2), attributes.get("offset", 0.5)
    steps = [float(np.float32(value / 127)) for value in (slope, offset, offset)]
    product = multiplied(integers * 127, *fixed_point(source.scale * steps[0] / steps[1]))
    limited = QuantParams(steps[1], narrow=False)
    product = np.clip(product, limited.low, limited.high)
    half = np.full(product.shape, 127)
    return add(product, half, [limited, QuantParams(steps[2])], result, (max(result.low, 0), result.high))


def _hard_swish(integers: np.ndarray, source: float, result: float) -> np.ndarray:
    """`x * relu6(x + 3) / 6` in 16 bits, as TFLite's reference kernel computes it."""
    hires = integers << _HIRES
    hires_scale = source / 2**_HIRES
    out_number, out_exponent = _fixed_point_16(hires_scale / result)
    gate_number, gate_exponent = _fixed_point_16(hires_scale / (3 / 32768))
    preshift = _product_16(hires, out_number)
    gate = hires
    if gate_exponent > 0:
        gate = np.clip(gate << (gate_exponent - 1), *_INT16)
    gate = _product_16(gate, gate_number)
    if gate_exponent > 0:
        gate = np.clip(gate << 1, *_INT16)
    if gate_exponent < 0:
        gate = divided_by_power(gate, -gate_exponent)
    gate = (gate + (1 << 15)) >> 1
    product = gate * preshift
    product = np.sign(product) * (np.abs(product) >> 15)  # a division, not a shift: towards zero
    return divided_by_power(product, -out_exponent) if out_exponent <= 0 else product << out_exponent


def _fixed_point_16(factor: float) -> tuple[int, int]:
    """As `fixed_point`, with the 15 upper bits of the number, rounded."""
    number, exponent = fixed_point(factor)
    return min((number + (1 << 15)) >> 16, 2**15 - 1), exponent


def _product_16(numbers: np.ndarray, number: int) -> np.ndarray:
    return np.clip((numbers * number + (1 << 14)) >> 15, *_INT16)


def _away(values: np.ndarray) -> np.ndarray:
    """Rounded, halves away from zero."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)
