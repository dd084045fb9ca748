"""Channels last: how TFLite stores what Paddle has as `[N, C, H, W]`. The only place that knows of both orders.

A tensor's first axes after the batch may be channels (one in an image, two while channels are shuffled); they are
stored behind all others. A tensor without such axes is stored as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_IMAGE = 4


@dataclass(frozen=True)
class Layout:
    """The order in which the axes of a tensor are stored.

    Attributes:
        rank: number of axes.
        channels: how many axes behind the batch are stored last; 0: Paddle's order.
    """

    rank: int
    channels: int = 0

    @classmethod
    def of(cls, shape: Sequence[int]) -> Layout:
        """That of a tensor which nothing else decides: an image is stored with its channels last."""
        return cls(len(shape), int(len(shape) == _IMAGE))

    @property
    def order(self) -> tuple[int, ...]:
        """Paddle's axes in the order in which they are stored."""
        ends = 1 + self.channels
        return (0, *range(ends, self.rank), *range(1, ends)) if self.channels else tuple(range(self.rank))

    def stored(self, sizes: Sequence[int]) -> list[int]:
        """A shape, or anything else with one entry an axis, in the stored order."""
        return [sizes[axis] for axis in self.order]

    def axis(self, axis: int) -> int:
        """The place of one of Paddle's axes, which may be negative."""
        return self.order.index(axis % self.rank)

    def store(self, array: np.ndarray) -> np.ndarray:
        """An array in the stored order."""
        return np.ascontiguousarray(array.transpose(self.order))


def reshaped(layout: Layout, shape: Sequence[int], result: Sequence[int]) -> Layout | None:
    """The layout in which the result of a reshape has its values in the stored order; None: there is none.

    Args:
        layout: of what is reshaped.
        shape, result: Paddle's shapes before and after.
    """
    if layout.channels == 0:
        return Layout(len(result))
    channels = int(np.prod(shape[1 : 1 + layout.channels]))
    for count in range(1, len(result)):
        if result[0] == shape[0] and int(np.prod(result[1 : 1 + count])) == channels:
            return Layout(len(result), count)
    return None


def moved(layout: Layout, axes: Sequence[int]) -> tuple[Layout, tuple[int, ...]]:
    """The layout of a transpose's result, and the permutation of stored axes; the identity where nothing moves.

    Args:
        layout: of what is transposed.
        axes: Paddle's permutation.
    """
    for channels in (0, layout.channels, *range(1, layout.rank)):
        result = Layout(layout.rank, channels)
        stored = tuple(layout.order.index(axes[axis]) for axis in result.order)
        if stored == tuple(range(layout.rank)):
            return result, stored
    result = Layout(layout.rank, layout.channels or int(layout.rank == _IMAGE))
    return result, tuple(layout.order.index(axes[axis]) for axis in result.order)
