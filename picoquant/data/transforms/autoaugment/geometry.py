"""Operations that move an image and its boxes: nearest pixels, grey 128 where there is none.

Boxes are [G, 4] x1, y1, x2, y2 in pixels. Source: PaddleDetection, ppdet/data/transform/autoaugment_utils.py; boxes
are moved in whole pixels as there.
"""

from __future__ import annotations

import math

import numpy as np

GREY = 128
_LEAST = 0.05  # of the image's side: what a box at its border is widened to when nothing of it is left


def sampled(image: np.ndarray, matrix: tuple[float, float, float, float, float, float]) -> np.ndarray:
    """The image whose pixel at (x, y) is that of `image` at (a x + b y + c, d x + e y + f), as Pillow's transform."""
    a, b, c, d, e, f = matrix
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    from_x = np.floor(a * x + b * y + c).astype(np.int64)
    from_y = np.floor(d * x + e * y + f).astype(np.int64)
    inside = (from_x >= 0) & (from_x < width) & (from_y >= 0) & (from_y < height)
    result = np.full_like(image, GREY)
    result[inside] = image[from_y[inside], from_x[inside]]
    return result


def translate(image: np.ndarray, pixels: float, axis: int) -> np.ndarray:
    """Move along `axis` (0: x, 1: y) against its direction."""
    move = [0.0, 0.0]
    move[axis] = pixels
    return sampled(image, (1, 0, move[0], 0, 1, move[1]))


def translate_boxes(boxes: np.ndarray, pixels: float, axis: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes of an image of `size` (height, width) that `translate` moved."""
    moved = np.trunc(boxes)
    moved[:, [axis, axis + 2]] -= int(pixels)
    return within(moved, size)


def shear(image: np.ndarray, level: float, axis: int) -> np.ndarray:
    """Slant along `axis`: a row's (column's) pixels are those `level` times its number further on."""
    return sampled(image, (1, level, 0, 0, 1, 0) if axis == 0 else (1, 0, 0, level, 1, 0))


def shear_boxes(boxes: np.ndarray, level: float, axis: int, size: tuple[int, int]) -> np.ndarray:
    """Boxes around what `shear` makes of boxes."""
    corners = _corners(np.trunc(boxes))
    corners[..., axis] -= level * corners[..., 1 - axis]
    return within(_around(np.trunc(corners)), size)


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turn counterclockwise around the centre."""
    angle = -math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    y, x = image.shape[0] / 2, image.shape[1] / 2
    return sampled(image, (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y))


def rotate_boxes(boxes: np.ndarray, degrees: float, size: tuple[int, int]) -> np.ndarray:
    """Boxes around what `rotate` makes of boxes."""
    centre = np.array([size[1], size[0]]) / 2
    corners = np.trunc(_corners(boxes) - centre)
    angle = math.radians(degrees)
    turned = np.empty_like(corners)
    turned[..., 0] = math.cos(angle) * corners[..., 0] + math.sin(angle) * corners[..., 1]
    turned[..., 1] = math.cos(angle) * corners[..., 1] - math.sin(angle) * corners[..., 0]
    return within(_around(np.trunc(turned)) + np.tile(centre, 2), size)


def within(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes clipped to an image of `size`; one of which nothing is left is widened at the border it is at."""
    sides = np.array([size[1], size[0]], np.float64)
    low, high = np.clip(boxes[:, :2], 0, sides), np.clip(boxes[:, 2:], 0, sides)
    flat = np.abs(high - low) <= 1e-8 * sides
    low = np.where(flat, np.minimum(low, sides * (1 - _LEAST)), low)
    high = np.where(flat, np.maximum(high, sides * _LEAST), high)
    return np.concatenate([low, high], axis=1).astype(np.float32)


def _corners(boxes: np.ndarray) -> np.ndarray:
    """[G, 4, 2] corners x, y."""
    return boxes.astype(np.float64)[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2)


def _around(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
