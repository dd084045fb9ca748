"""Integers that stand for values, and how a sum of products becomes one of them.

*Steps* are an integer minus its zero point, so that steps times scale are the value. All functions take and return
steps; the zero point only sets which there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from picoquant.int8.quant_params import QuantParams
from picoquant.targets.integer_rules import Rules

INT32 = (-(2**31), 2**31 - 1)


def held(absmax: float, rules: Rules, non_negative: bool = False) -> QuantParams:
    """How a target holds a tensor.

    Args:
        absmax: largest absolute value, which is 127 steps.
        rules: of the target. Symmetric: zero point 128 of uint8, 0 of int8, whatever the values are. Otherwise a
            tensor without negative values has its 255 steps from 0 to `absmax`.
        non_negative: whether no value is below 0.
    """
    if rules.symmetric or not non_negative:
        return _integers(absmax / 127, rules, 128)
    return _integers(absmax / 255, rules, 0)


def held_from_zero(absmax: float, rules: Rules) -> QuantParams:
    """The scale of `held` with the zero point at the end: 255 steps from 0 (a sigmoid's result on VeriSilicon)."""
    return _integers(absmax / 127, rules, 0)


def _integers(scale: float, rules: Rules, below: int) -> QuantParams:
    """8-bit integers of which `below` are below the zero point."""
    signed = rules.arithmetic.numbers != "uint8"
    return QuantParams(scale, below - 128 if signed else below, signed=signed, narrow=False)


def limited(params: QuantParams, low: float, high: float, rounding: str) -> tuple[int, int]:
    """The steps of an activation that ends at the values `low` and `high`, within those that there are."""
    ends = [params.low, params.high]
    for place, value in enumerate((low, high)):
        if math.isfinite(value):
            ends[place] = int(rounded(np.float64(value / params.scale), rounding))
    return max(ends[0], params.low), min(ends[1], params.high)


def to_steps(values: np.ndarray, params: QuantParams, rounding: str) -> np.ndarray:
    """Values to steps, int16."""
    steps = rounded(values / np.float32(params.scale), rounding)
    return np.clip(steps, params.low, params.high).astype(np.int16)


def to_values(steps: np.ndarray, params: QuantParams) -> np.ndarray:
    """Steps to values, float32."""
    return steps.astype(np.float32) * np.float32(params.scale)


def rounded(values: np.ndarray, rounding: str) -> np.ndarray:
    """Floats to the nearest whole numbers, still floats."""
    if rounding == "half_to_even":
        return np.rint(values)
    return np.copysign(np.floor(np.abs(values) + 0.5), values)


def shifted(numbers: np.ndarray, shift: np.ndarray | int, rounding: str) -> np.ndarray:
    """int64 numbers divided by `2**shift` and rounded, in integers.

    Args:
        numbers: int64.
        shift: 0 to 62, one for all or an array that broadcasts.
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
    """A positive factor as integers: `number / 2**shift`.

    Attributes:
        number: `[n]` int64.
        shift: `[n]` int64.
    """

    number: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, factors: np.ndarray, bits: int, common: bool = False) -> Multiplier:
        """The nearest numbers of `bits` bits.

        With 31 bits this is TFLite's `QuantizeMultiplier` (quantization_util.cc).

        Args:
            factors: `[n]`, above 0.
            bits: of a number.
            common: one shift for all, that of the largest factor.
        """
        factors = np.asarray(factors, np.float64)
        _, exponent = np.frexp(factors.max(keepdims=True) if common else factors)
        shift = np.broadcast_to(bits - exponent.astype(np.int64), factors.shape).copy()
        number = np.rint(np.ldexp(factors, shift)).astype(np.int64)
        full = number == np.int64(1) << bits
        if common and full.any():
            full[:] = True
            number = np.rint(np.ldexp(factors, shift - 1)).astype(np.int64)
        else:
            number = np.where(full, number >> 1, number)
        shift = shift - full
        # Factors so large or small that the shift leaves 0 to 62 move the number instead.
        number = np.where(shift < 0, number << np.maximum(-shift, 0), number)
        number = np.where(shift > 62, number >> np.minimum(np.maximum(shift - 62, 0), 63), number)
        return cls(number, np.clip(shift, 0, 62))


@dataclass(frozen=True)
class Requantiser:
    """Brings int32 sums to a result's scale: made once for each operator.

    Attributes:
        factors: `[n]` scale of a sum divided by the result's.
        multiplier: the same in integers; None: the target multiplies by float32.
        low, high: steps of the result.
        rounding: of halves.
    """

    factors: np.ndarray
    multiplier: Multiplier | None
    low: int
    high: int
    rounding: str

    @classmethod
    def of(cls, factors: np.ndarray, rules: Rules, low: int, high: int) -> Requantiser:
        """See the attributes."""
        factors = np.atleast_1d(np.asarray(factors, np.float64))
        bits = rules.arithmetic.multiplier_bits
        multiplier = Multiplier.of(factors, bits) if bits else None
        return cls(factors, multiplier, low, high, rules.arithmetic.rounding)

    def __call__(self, sums: np.ndarray, axis: int = 0) -> np.ndarray:
        """Steps, int16.

        Args:
            sums: whole numbers within int32, of any type.
            axis: which the factors run along, where there are several.
        """
        shape = [1] * sums.ndim
        if len(self.factors) > 1:
            shape[axis] = -1
        if self.multiplier is None:
            scaled = sums.astype(np.float32) * self.factors.astype(np.float32).reshape(shape)
            steps = rounded(scaled, self.rounding)
        else:
            number, shift = (part.reshape(shape) for part in (self.multiplier.number, self.multiplier.shift))
            steps = shifted(sums.astype(np.int64) * number, shift, self.rounding)
        return np.clip(steps, self.low, self.high).astype(np.int16)


def table(function: Callable, source: QuantParams, result: QuantParams, rounding: str) -> np.ndarray:
    """A function of one tensor as 256 entries: the result's steps for each of the source's, from its lowest."""
    values = np.arange(source.low, source.high + 1, dtype=np.float64) * source.scale
    steps = rounded(function(values) / result.scale, rounding)
    return np.clip(steps, result.low, result.high).astype(np.int16)
