"""Anchor points: the centres of the feature maps' cells, level after level, each level row by row.

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
        strides: (L, 1) float32, input pixels per cell of each point's level.
        counts: number of cells (points) of each level.
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
    """The anchor points of feature maps.

    Args:
        sizes: height and width of each level's feature map, cells.
        strides: input pixels per cell of each level.
        cell_offset: position of a point within its cell, 0 to 1; 0.5 is the centre.
    """
    points, columns = [], []
    for (height, width), stride in zip(sizes, strides):
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        cells = np.stack([x.ravel(), y.ravel()], axis=1)
        points.append(((cells + cell_offset) * stride).astype(np.float32))
        columns.append(np.full((height * width, 1), stride, np.float32))
    return Grid(np.concatenate(points), np.concatenate(columns), tuple(len(p) for p in points))
