"""The paddings of Paddle's convolutions and pools, written in three ways, as four numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def explicit_paddings(
    attributes: Mapping[str, Any], size: Sequence[int], source: Sequence[int]
) -> tuple[int, int, int, int]:
    """`(top, bottom, left, right)`, pixels.

    Args:
        attributes: of the operator: `paddings` (two or four), `padding_algorithm`, `strides`.
        size: of the window, (height, width).
        source: of the input, (height, width).

    Source: Paddle's `UpdatePaddingAndDilation` (phi/kernels/cpu/conv_util.h).
    """
    algorithm = attributes.get("padding_algorithm") or "EXPLICIT"
    if algorithm == "VALID":
        return 0, 0, 0, 0
    if algorithm == "SAME":
        found: list[int] = []
        for length, kernel, stride in zip(source, size, attributes["strides"]):
            total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
            found += [total // 2, total - total // 2]
        return found[0], found[1], found[2], found[3]
    given = tuple(attributes["paddings"])
    return given if len(given) == 4 else (given[0], given[0], given[1], given[1])
