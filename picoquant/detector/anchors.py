"""Anchor points: the centres of the feature maps' cells, all levels after another, rows first.

`L` is the number of points over all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Grid(NamedTuple):
    """Anchor points of an input size.

    Attributes:
        points: (L, 2) float32, x y, input pixels.
        strides: (L, 1) float32, input pixels a cell.
        counts: cells of each level.
    """

    points: np.ndarray
    strides: np.ndarray
    counts: tuple[int, ...]

    @property
    def cell_points(self) -> np.ndarray:
        """(L, 2) float32: the points, each in units of its own stride."""
        return self.points / self.strides

    def boxes(self, scale: float) -> np.ndarray:
        """(L, 4) float32: squares around the points, `scale` strides wide, input pixels."""
        half = self.strides * np.float32(scale * 0.5)
        return np.concatenate([self.points - half, self.points + half], axis=1)


def make_grid(sizes: Sequence[tuple[int, int]], strides: Sequence[int], cell_offset: float) -> Grid:
    """The grid of feature maps of `sizes` (height, width).

    Args:
        cell_offset: where in its cell a point lies; 0.5 is the centre.
    """
    points, columns = [], []
    for (height, width), stride in zip(sizes, strides):
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        cells = np.stack([x.ravel(), y.ravel()], axis=1)
        points.append(((cells + cell_offset) * stride).astype(np.float32))
        columns.append(np.full((height * width, 1), stride, np.float32))
    return Grid(np.concatenate(points), np.concatenate(columns), tuple(len(p) for p in points))
