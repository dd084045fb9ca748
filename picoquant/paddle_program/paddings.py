"""The paddings of Paddle's convolutions and poolings as four numbers; Paddle writes them in three ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def explicit_paddings(
    attributes: Mapping[str, Any], size: Sequence[int], source: Sequence[int]
) -> tuple[int, int, int, int]:
    """The padding of a convolution or pooling.

    Args:
        attributes: the operator's attributes `paddings` (two or four numbers), `padding_algorithm` and
            `strides`.
        size: height and width of the window.
        source: height and width of the input.

    Returns: `(top, bottom, left, right)` in pixels.

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
    paddings = tuple(attributes["paddings"])
    return paddings if len(paddings) == 4 else (paddings[0], paddings[0], paddings[1], paddings[1])
