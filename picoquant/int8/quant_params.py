"""How integers stand for values: `value = scale * (q - zero_point)`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMALLEST_RANGE = 1e-6  # of a tensor that is 0 throughout: a range of 0 would be divided by


@dataclass(frozen=True, eq=False)
class QuantParams:
    """The quantisation of a tensor.

    Attributes:
        scale: value of one step; a float, or float64 `[channels]` where `axis` is not -1.
        zero_point: the integer that stands for 0.0.
        bits: of an integer, 8 or 16 (4 and more in experiments).
        axis: the axis that `scale` runs along; -1: one scale for the whole tensor.
        signed: integers from `-2**(bits - 1)` to `2**(bits - 1) - 1`; otherwise from 0 to `2**bits - 1`.
        narrow: signed integers without the lowest, as Paddle has them.
    """

    scale: float | np.ndarray
    zero_point: int = 0
    bits: int = 8
    axis: int = -1
    signed: bool = True
    narrow: bool = True

    @classmethod
    def symmetric(cls, absmax: float | np.ndarray, bits: int = 8, axis: int = -1) -> QuantParams:
        """The largest integer stands for `absmax`, zero for 0.0."""
        largest = 2 ** (bits - 1) - 1
        scale = float(absmax) / largest if axis < 0 else np.asarray(absmax, np.float64) / largest
        return cls(scale, 0, bits, axis)

    @classmethod
    def of_range(cls, value: float, bits: int = 8, zero_point: int | None = None) -> QuantParams:
        """A tensor's quantisation from how ranges are kept on the way to it.

        Args:
            value: of as many steps as the largest signed integer has (127), whatever the zero point.
            bits: of an integer.
            zero_point: of signed integers, all of which are used; None: symmetric.
        """
        if zero_point is None:
            return cls.symmetric(value, bits)
        return cls(float(value) / (2 ** (bits - 1) - 1), int(zero_point), bits, narrow=False)

    @classmethod
    def asymmetric(cls, low: float, high: float, bits: int = 8) -> QuantParams:
        """`2**bits - 1` steps from `low` to `high`, moved so that 0.0 is an integer; 0.0 is always within.

        A range with `low == -high` is made symmetric.
        """
        if low == -high:
            return cls.symmetric(high, bits)
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / (2**bits - 1)
        return cls(scale, int(np.rint(-low / scale)), bits, signed=False)

    @property
    def qmin(self) -> int:
        """The smallest integer."""
        return self.narrow - 2 ** (self.bits - 1) if self.signed else 0

    @property
    def qmax(self) -> int:
        """The largest integer."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    @property
    def low(self) -> int:
        """The smallest integer less the zero point: steps below 0.0."""
        return self.qmin - self.zero_point

    @property
    def high(self) -> int:
        """The largest integer less the zero point: steps above 0.0."""
        return self.qmax - self.zero_point

    @property
    def lowest(self) -> float | np.ndarray:
        """The value of the smallest integer."""
        return self.scale * self.low

    @property
    def highest(self) -> float | np.ndarray:
        """The value of the largest integer."""
        return self.scale * self.high

    @property
    def absmax(self) -> float | np.ndarray:
        """The value of the largest integer, which Paddle's quantising operators call the scale."""
        return self.scale * self.high

    @property
    def range(self) -> float | np.ndarray:
        """The value of as many steps as the largest signed integer has, see `of_range`."""
        return self.scale * (2 ** (self.bits - 1) - 1)

    @property
    def is_symmetric(self) -> bool:
        """Whether as many integers are below the one for 0.0, which is 0, as above."""
        return self.signed and self.zero_point == 0 and self.narrow

    def quantise(self, value: np.ndarray) -> np.ndarray:
        """Values to the nearest integers, halves to even, limited; of `value`'s type."""
        return np.clip(np.rint(value / self._along(value.ndim)) + self.zero_point, self.qmin, self.qmax)

    def dequantise(self, integers: np.ndarray) -> np.ndarray:
        """Integers to values, float64 or `integers`' type where that is a float."""
        return (integers - self.zero_point) * self._along(integers.ndim)

    def fake_quantise(self, value: np.ndarray) -> np.ndarray:
        """Values as the integers hold them."""
        return self.dequantise(self.quantise(value))

    def _along(self, ndim: int) -> float | np.ndarray:
        if self.axis < 0:
            return self.scale
        return self.scale.reshape([-1 if axis == self.axis else 1 for axis in range(ndim)])
