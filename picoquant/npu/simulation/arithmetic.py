"""Quantised values, and the requantisation of sums of products to them.

A *quantised value* is an integer minus its zero point, so that quantised value times scale is the real value.
All functions take and return quantised values, int16, -255 to 255; the zero point only determines their range
(`QuantParams.low`, `QuantParams.high`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation import tflite
from picoquant.targets.integer_rules import TFLITE, MultiplierRule, Rules

INT32 = (-(2**31), 2**31 - 1)


def target_params(value: float, rules: Rules, zero_point: int = 0) -> QuantParams:
    """Scale, zero point and integer type with which a target stores a tensor, all 256 integers in use.

    Args:
        value: of 127 steps; the tensor's largest absolute value where it is symmetric.
        rules: of the target: whether integers are signed.
        zero_point: of signed integers; that of unsigned ones is 128 more.
    """
    signed = rules.arithmetic.numbers != "uint8"
    return QuantParams(value / 127, zero_point if signed else zero_point + 128, signed=signed, narrow=False)


def clamp_limits(params: QuantParams, low: float, high: float, rounding: str) -> tuple[int, int]:
    """The quantised values of an activation's limits `low` and `high`, clipped to the integers' range.

    An infinite limit is the end of that range.
    """
    limits = [params.low, params.high]
    for index, value in enumerate((low, high)):
        if math.isfinite(value):
            limits[index] = int(rounded(np.float64(value / params.scale), rounding))
    return max(limits[0], params.low), min(limits[1], params.high)


def quantise(values: np.ndarray, params: QuantParams, rounding: str) -> np.ndarray:
    """Real values to quantised values, int16; any shape."""
    quantised = rounded(values / np.float32(params.scale), rounding)
    return np.clip(quantised, params.low, params.high).astype(np.int16)


def dequantise(quantised: np.ndarray, params: QuantParams) -> np.ndarray:
    """Quantised values to real values, float32; any shape."""
    return quantised.astype(np.float32) * np.float32(params.scale)


def rounded(values: np.ndarray, rounding: str) -> np.ndarray:
    """Floats rounded to whole numbers, still floats.

    Args:
        values: floats, any shape.
        rounding: of halves: `half_to_even`; otherwise away from zero.
    """
    if rounding == "half_to_even":
        return np.rint(values)
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def shifted(numbers: np.ndarray, shift: np.ndarray | int, rounding: str) -> np.ndarray:
    """Integers divided by `2**shift` and rounded, computed in integers only.

    Args:
        numbers: int64, any shape.
        shift: 0 to 62, one number or an array that broadcasts.
        rounding: of halves, see `rounded`.
    """
    shift = np.asarray(shift, np.int64)
    half = np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), np.int64(0))
    if rounding == "half_away":
        sign = numbers >> np.int64(63)  # 0 or -1
        return (((numbers ^ sign) - sign + half >> shift) ^ sign) - sign
    up = (numbers + half) >> shift
    mask = (np.int64(1) << shift) - 1
    tie = (numbers & mask) == half
    tie &= shift > 0
    return up - (tie & ((up & 1) == 1))


@dataclass(frozen=True)
class Multiplier:
    """Positive factors in fixed point: `number / 2**shift`.

    Attributes:
        number: `[n]` int64.
        shift: `[n]` int64, 0 to 62.
    """

    number: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, factors: np.ndarray, rule: MultiplierRule, common: bool = False) -> Multiplier:
        """Factors as multipliers of a target's width.

        To the nearest of 31 bits is TFLite's `QuantizeMultiplier` (quantization_util.cc). 16 bits, truncated, is
        what VeriSilicon's emulator of the A311D, S905D3 and C308X computes with (docs/simulation.md).

        Args:
            factors: `[n]`, above 0.
            rule: width of `number`, and how factors are brought to it.
            common: use the shift of the largest factor for all of them.
        """
        factors = np.asarray(factors, np.float64)
        _, exponent = np.frexp(factors.max(keepdims=True) if common else factors)
        shift = np.broadcast_to(rule.bits - exponent.astype(np.int64), factors.shape).copy()
        to_whole = np.floor if rule.rounding == "truncate" else np.rint
        number = to_whole(np.ldexp(factors, shift)).astype(np.int64)
        full = number == np.int64(1) << rule.bits  # rounded up to one bit more, which truncation never does
        if common and full.any():
            full[:] = True
            number = np.rint(np.ldexp(factors, shift - 1)).astype(np.int64)
        else:
            number = np.where(full, number >> 1, number)
        shift = shift - full
        # For a factor so large or small that its shift is not within 0 to 62, shift the number instead.
        number = np.where(shift < 0, number << np.maximum(-shift, 0), number)
        number = np.where(shift > 62, number >> np.minimum(np.maximum(shift - 62, 0), 63), number)
        return cls(number, np.clip(shift, 0, 62))


@dataclass(frozen=True)
class Requantiser:
    """Requantises int32 sums to the scale of a result; built once for each operator.

    Attributes:
        factors: `[n]`, the scale of the sums divided by the result's scale.
        multiplier: the factors in fixed point; None if the target multiplies by float32.
        low, high: the smallest and largest quantised value of the result.
        rounding: of halves, see `rounded`.
    """

    factors: np.ndarray
    multiplier: Multiplier | None
    low: int
    high: int
    rounding: str

    @classmethod
    def of_channels(
        cls, scales: np.ndarray, source: float, result: float, rules: Rules, low: int, high: int
    ) -> Requantiser:
        """A requantiser for sums of a convolution with a scale for each channel.

        Where shaders compute it, they do so in float32: the emulator's results are those of the sum times
        `scale * source / result`, each operation rounded to float32.

        Args:
            scales: of the weights, `[n]`.
            source, result: scale of the convolution's input and result.
            rules, low, high: see `of`.
        """
        if not rules.on_shaders(per_channel=True):
            return cls.of(source * scales / result, rules, low, high)
        factors = np.asarray(scales, np.float32) * np.float32(source) / np.float32(result)
        return cls(factors, None, low, high, rules.arithmetic.rounding)

    @classmethod
    def of(cls, factors: np.ndarray, rules: Rules, low: int, high: int) -> Requantiser:
        """A requantiser for the arithmetic of `rules`; for the other arguments see the attributes."""
        factors = np.atleast_1d(np.asarray(factors, np.float64))
        rule = rules.arithmetic.multiplier
        multiplier = None if rule is None else Multiplier.of(factors, rule)
        return cls(factors, multiplier, low, high, rules.arithmetic.rounding)

    def __call__(self, sums: np.ndarray, axis: int = 0) -> np.ndarray:
        """Requantise sums; returns quantised values, int16, of the same shape.

        Args:
            sums: whole numbers within the range of int32, of any type and shape.
            axis: the axis of `sums` that the factors belong to, if there are several.
        """
        shape = [1] * sums.ndim
        if len(self.factors) > 1:
            shape[axis] = -1
        if self.multiplier is None:
            scaled = sums.astype(np.float32) * self.factors.astype(np.float32).reshape(shape)
            quantised = rounded(scaled, self.rounding)
        else:
            number, shift = (part.reshape(shape) for part in (self.multiplier.number, self.multiplier.shift))
            numbers = sums.astype(np.int64)
            if self.rounding == TFLITE:
                quantised = tflite.multiplied(numbers, number, tflite.BITS - shift)
            else:
                quantised = shifted(numbers * number, shift, self.rounding)
        return np.clip(quantised, self.low, self.high).astype(np.int16)


def table(
    function: Callable, source: QuantParams, result: QuantParams, rounding: str, points: int | None = None
) -> np.ndarray:
    """Lookup table of a function of one tensor.

    Args:
        function: of real values.
        source, result: quantisation parameters of its input and result.
        rounding: of halves, see `rounded`.
        points: see `Arithmetic.table_points`; the arithmetic is then that of `_interpolated`.

    Returns: `[256]` int16: the quantised result for each quantised value of the source, from its lowest on.
    """
    levels = np.arange(source.low, source.high + 1, dtype=np.float64)
    if points is None:
        quantised = rounded(function(levels * source.scale) / result.scale, rounding)
    else:
        quantised = rounded(_interpolated(function, levels, source, result, points), rounding) + result.low
    return np.clip(quantised, result.low, result.high).astype(np.int16)


def shader_table(function: Callable, source: QuantParams, result: QuantParams, rounding: str) -> np.ndarray:
    """`table` as shaders compute it: in float32, times the inverse of the result's scale."""
    levels = np.arange(source.low, source.high + 1, dtype=np.float32)
    values = function(levels * np.float32(source.scale)) * (np.float32(1) / np.float32(result.scale))
    return np.clip(rounded(values, rounding), result.low, result.high).astype(np.int16)


def _interpolated(
    function: Callable, levels: np.ndarray, source: QuantParams, result: QuantParams, points: int
) -> np.ndarray:
    """Stored results, from 0 on, before they are rounded to whole numbers, as VeriSilicon's emulator has them.

    Its table has a point wherever the quantised input is a multiple of 1/16 of a power of two, and straight lines
    between them: a bend, such as ReLU6's, is cut off. All numbers have 16 bits from the first that is 1: the
    points, what is between them, times 1 / scale, plus the zero point. Found from its results for 269 tables
    (docs/simulation.md).
    """
    size = np.abs(levels)
    _, exponent = np.frexp(size)  # size is in [2**(exponent - 1), 2**exponent)
    step = np.where(size > 0, np.ldexp(1.0 / points, exponent - 1), 1.0)
    below = np.floor(size / step) * step
    first, second = (
        sixteen_bits(function(np.sign(levels) * end * source.scale)) for end in (below, below + step)
    )
    values = sixteen_bits(first + (second - first) * (size - below) / step)
    return sixteen_bits(sixteen_bits(values * sixteen_bits(1 / result.scale)) - result.low)


def sixteen_bits(values: np.ndarray | float) -> np.ndarray:
    """Numbers rounded to 16 bits from the first that is 1, halves to even."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.rint(np.ldexp(mantissa, 16)), exponent - 16)
