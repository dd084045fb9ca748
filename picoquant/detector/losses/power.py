"""The power function that the focal losses share."""

from __future__ import annotations

from paddle import Tensor


def power(base: Tensor, exponent: float) -> Tensor:
    """`base` to the power of `exponent`, element by element.

    The published exponent is 2, and `square` takes a quarter of the time of `pow` on CPU.
    """
    return base.square() if exponent == 2 else base.pow(exponent)
