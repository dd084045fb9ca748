"""Rules of a target's integer arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

NUMBERS = ("uint8", "int8")
TFLITE = "tflite"
ROUNDINGS = ("half_to_even", "half_away", TFLITE)
MULTIPLIER_BITS = (0, 15, 16, 31)


@dataclass(frozen=True)
class Arithmetic:
    """Section `arithmetic` of a target's profile.

    Attributes:
        numbers: integer type of a quantised tensor, `uint8` or `int8`.
        rounding: of halves: `half_to_even`, or `half_away` from zero. `tflite`: as TensorFlow Lite's reference kernels,
            which round a product and its shift each (`multiplier_bits` 31), sums and means in ways of their own;
            tensors have the scales of a `.tflite`.
        multiplier_bits: width of the integer multiplier with which a sum is requantised, followed by a shift
            to the right; 0 if the multiplier is a float32.
    """

    numbers: str
    rounding: str
    multiplier_bits: int


@dataclass(frozen=True)
class Rules:
    """All rules that the simulation needs.

    Attributes:
        arithmetic: see there.
        symmetric: whether the zero point is in the middle of the integers' range for every tensor.
    """

    arithmetic: Arithmetic
    symmetric: bool = True

    @property
    def tflite(self) -> bool:
        """Whether TensorFlow Lite's kernels and scales are computed."""
        return self.arithmetic.rounding == TFLITE
