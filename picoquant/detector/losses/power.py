"""The power of the focal losses."""

from __future__ import annotations

from paddle import Tensor


def power(base: Tensor, exponent: float) -> Tensor:
    """`base` to `exponent`, element by element.

    The published exponent is 2, and `square` takes a quarter of the time of `pow` on CPU.
    """
    return base.square() if exponent == 2 else base.pow(exponent)
