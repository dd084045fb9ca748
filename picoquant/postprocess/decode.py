"""Decode a head's raw outputs to boxes: each distance is the expected value of its distribution.

Source: Generalized Focal Loss (https://arxiv.org/abs/2006.04388), equation 3; anchor points as in
PaddleDetection's `ppdet/modeling/heads/pico_head.py`.

`N` images, `C` classes, `L` anchor points over all levels, `R` = reg_max: every distance is a
distribution over the bins 0 … R, in units of the level's stride.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

SCORE_EPS = 1e-9  # the head adds it before the square root of an aligned score
_MARGIN = 1e-3  # in logits: float32's sigmoid may round a score up to just above the threshold
CELL_OFFSET = 0.5  # position of an anchor point within its cell in all of PaddleDetection's PicoDets


def level_sizes(input_size: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of every level's feature map, for an input of `(height, width)` pixels."""
    height, width = input_size
    return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in strides]


def anchor_points(
    input_size: Sequence[int], strides: Sequence[int], cell_offset: float = CELL_OFFSET
) -> tuple[np.ndarray, np.ndarray]:
    """Anchor points of all levels, row by row, finest level first.

    Args:
        input_size: height and width of the network's input, pixels.
        strides: pixels per cell of each level.
        cell_offset: position of a point within its cell, 0 to 1.

    Returns: points `[L, 2]` float32 (x y, in strides) and the stride of each, `[L, 1]` float32, pixels.
    """
    points, sizes = [], []
    for (rows, columns), stride in zip(level_sizes(input_size, strides), strides):
        y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + np.float32(cell_offset)
        points.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        sizes.append(np.full((rows * columns, 1), stride, np.float32))
    return np.concatenate(points), np.concatenate(sizes)


def decode_boxes(logits: np.ndarray, points: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Boxes of the anchor points.

    Args:
        logits: `[..., L, 4 * (R + 1)]` float32, the distributions of left, top, right, bottom.
        points: `[L, 2]` float32, x y, in strides.
        strides: `[L, 1]` float32, input pixels.

    Returns: `[..., L, 4]` float32, x1 y1 x2 y2, input pixels.
    """
    bins = logits.shape[-1] // 4
    logits = logits.reshape(*logits.shape[:-1], 4, bins)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    distances = weights @ np.arange(bins, dtype=np.float32) / weights.sum(axis=-1)
    corners = [points - distances[..., :2], points + distances[..., 2:]]
    return np.concatenate(corners, axis=-1) * strides


def scores_of_logits(classes: np.ndarray, alignment: np.ndarray | None = None) -> np.ndarray:
    """Scores from the logits that an NPU computes: the square root of the product of two sigmoids.

    Args:
        classes: `[..., C]` float32.
        alignment: `[..., 1]` float32; None for a head without alignment map, whose score is the
            sigmoid alone.

    Returns: `[..., C]` float32, 0 to 1.
    """
    scores = _sigmoid(classes)
    return scores if alignment is None else np.sqrt(scores * _sigmoid(alignment) + np.float32(SCORE_EPS))


def promising(classes: np.ndarray, alignment: np.ndarray | None, threshold: float) -> np.ndarray:
    """Select the points that can have a score above a threshold by comparing logits, without any sigmoid.

    A score is the square root of the product of two sigmoids. Neither is above 1, so both must be above the
    square of the threshold.

    Args:
        classes: `[L, C]` float32; alignment: `[L, 1]` float32 or None.
        threshold: 0 to 1.

    Returns: `[L]` bool; True for all points with a score above the threshold, and maybe a few others.
    """
    best = classes.max(axis=-1)
    least = threshold if alignment is None else threshold**2 - SCORE_EPS
    if least <= 0:
        return np.ones(best.shape, bool)
    limit = math.log(least / (1 - least)) - _MARGIN if least < 1 else math.inf
    chosen = best > limit
    return chosen if alignment is None else chosen & (alignment[..., 0] > limit)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.maximum(x, np.float32(-80))))  # a little below, exp(-x) overflows float32


def decode_levels(
    scores: Sequence[np.ndarray],
    logits: Sequence[np.ndarray],
    input_size: Sequence[int],
    strides: Sequence[int],
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the raw outputs of all levels; the anchor points are at the centres of the cells.

    Args:
        scores: `[N, H*W, C]` float32, 0 to 1, one array per level.
        logits: `[N, H*W, 4 * (R + 1)]` float32, one array per level.
        input_size: height and width of the network's input, pixels.
        strides: pixels per cell of each level.

    Returns: scores `[N, C, L]` and boxes `[N, L, 4]` (x1 y1 x2 y2, input pixels), float32.
    """
    points, sizes = anchor_points(input_size, strides)
    boxes = decode_boxes(np.concatenate(logits, axis=1), points, sizes)
    return np.concatenate(scores, axis=1).transpose(0, 2, 1), boxes
