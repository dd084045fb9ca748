"""How a target computes with integers."""

from __future__ import annotations

from dataclasses import dataclass

NUMBERS = ("uint8", "int8")
ROUNDINGS = ("half_to_even", "half_away")
MULTIPLIER_BITS = (0, 15, 16, 31)


@dataclass(frozen=True)
class Arithmetic:
    """What a target's profile says of its integers (section `arithmetic`).

    Attributes:
        numbers: what a tensor is stored as, `uint8` or `int8`.
        rounding: of halves: `half_to_even`, or `half_away` from zero.
        multiplier_bits: a sum is brought to its result's scale by a whole number of so many bits and a shift
            to the right; 0: by a float32.
    """

    numbers: str
    rounding: str
    multiplier_bits: int


@dataclass(frozen=True)
class Rules:
    """`Arithmetic`, and whether 0.0 is in the middle of every tensor's numbers."""

    arithmetic: Arithmetic
    symmetric: bool = True
