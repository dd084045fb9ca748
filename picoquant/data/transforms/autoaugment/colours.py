"""Operations on colours, [H, W, 3] uint8 to the same.

Source: PaddleDetection, ppdet/data/transform/autoaugment_utils.py, and through it TensorFlow's TPU models and Pillow.
"""

from __future__ import annotations

import cv2
import numpy as np

_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
# Pillow's grey, in 16 bits.
_GREY = np.array([19595, 38470, 7471], np.int64)


def blended(from_image: np.ndarray, to_image: np.ndarray, factor: float) -> np.ndarray:
    """`from_image` at 0, `to_image` at 1, further away beyond; cut off to whole levels, clipped."""
    start = from_image.astype(np.float32)
    mixed = start + np.float32(factor) * (to_image.astype(np.float32) - start)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def colour(image: np.ndarray, factor: float) -> np.ndarray:
    """Between grey (0) and the image (1); the grey weighs red as blue, as the original's does."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return blended(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Between the mean's grey (0) and the image (1)."""
    mean = int(((image @ _GREY + 0x8000) >> 16).mean() + 0.5)
    return blended(np.full_like(image, mean), image, factor)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Between black (0) and the image (1)."""
    return blended(np.zeros_like(image), image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Between a smoothed image (0) and the image (1)."""
    smooth = cv2.filter2D(image.astype(np.float32), -1, _SMOOTH).astype(np.uint8)
    return blended(smooth, image, factor)


def equalize(image: np.ndarray) -> np.ndarray:
    """Each channel's levels spread so that all are about as frequent."""
    return np.stack([_equalized(image[..., channel]) for channel in range(3)], axis=-1)


def _equalized(plane: np.ndarray) -> np.ndarray:
    counts = np.bincount(plane.ravel(), minlength=256)
    step = (counts.sum() - counts[counts > 0][-1]) // 255
    if step == 0:
        return plane
    table = (np.cumsum(counts) + step // 2) // step
    table = np.concatenate([[0], table[:-1]])
    return np.clip(table, 0, 255).astype(np.uint8)[plane]


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    """Add to what is below 128."""
    added = np.clip(image.astype(np.int64) + addition, 0, 255).astype(np.uint8)
    return np.where(image < 128, added, image)


def cutout(image: np.ndarray, half: int, rng: np.random.Generator) -> np.ndarray:
    """Make a square of 2 * `half` pixels grey, its centre anywhere in the image."""
    height, width = image.shape[:2]
    y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
    result = image.copy()
    result[max(0, y - half) : y + half, max(0, x - half) : x + half] = 128
    return result
