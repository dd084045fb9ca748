"""Make an image as large as fits into a size with the ratio of its sides kept, and fill what is left (a letterbox)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from picoquant.data.transforms.sample import Sample
from picoquant.utils import setting_checks as checks


def fitting(image_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that an image gets to fit into `size` (height, width), rounded to whole pixels, at least 1."""
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    height, width = (max(int(side * scale + 0.5), 1) for side in image_size)
    return height, width


def offset(inner: tuple[int, int], size: tuple[int, int], place: str) -> tuple[int, int]:
    """Where an image of `inner` (height, width) begins in one of `size`: rows and columns of padding before it.

    `place` of the padding: `end` (right and below), `centre` (on all sides) or `start` (left and above).
    """
    left_over = size[0] - inner[0], size[1] - inner[1]
    if place == "end":
        return 0, 0
    return (left_over[0] // 2, left_over[1] // 2) if place == "centre" else left_over


def resize_to(sample: Sample, size: tuple[int, int], interp: int) -> tuple[float, float]:
    """Resize the image to `size` (height, width) and set im_shape and scale_factor; boxes are left as they are.

    Returns: the factors y and x.
    """
    height, width = sample.image.shape[:2]
    y, x = size[0] / height, size[1] / width
    if (y, x) != (1.0, 1.0):
        sample.image = cv2.resize(sample.image, None, fx=x, fy=y, interpolation=interp)
    sample.im_shape = (float(size[0]), float(size[1]))
    sample.scale_factor = (sample.scale_factor[0] * y, sample.scale_factor[1] * x)
    return y, x


@dataclass(frozen=True)
class FitResize:
    """Resize to fit into the network's input, for evaluation: `size` (height, width), `place` of the padding to come.

    For a square input this is `Resize` with keep_ratio, and PaddleDetection's. For others PaddleDetection lets
    an upright image be as high as the input is wide, which no fixed input takes.
    """

    size: tuple[int, int]
    interp: int
    place: str

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        inner = fitting(sample.image.shape[:2], self.size)
        resize_to(sample, inner, self.interp)
        sample.pad_offset = offset(inner, self.size, self.place)
        return sample


@dataclass(frozen=True)
class FillInput:
    """Put a normalised image [3, h, w] into the network's input [3, height, width]; `fill` is a value a channel."""

    size: tuple[int, int]
    fill: tuple[float, float, float]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        channels, high, wide = sample.image.shape
        if channels != 3 or (high, wide) == self.size:  # without Permute, which the batch says
            return sample
        pixels = np.empty((3, *self.size), np.float32)
        pixels[:] = np.float32(self.fill)[:, None, None]
        top, left = sample.pad_offset
        pixels[:, top : top + high, left : left + wide] = sample.image
        sample.image = pixels
        return sample


@dataclass(frozen=True)
class LetterBoxResize:
    """Fit into target_size (height, width) by cv2.INTER_AREA, in the middle of grey (128).

    Source: PaddleDetection, mot_operators.py, `LetterBoxResize`; boxes are x1, y1, x2, y2 in pixels here, as those of
    every other transform, and not the normalised ones of its tracking data.
    """

    target_size: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_size", checks.size("target_size", self.target_size))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        inner = fitting(sample.image.shape[:2], self.target_size)
        y, x = resize_to(sample, inner, cv2.INTER_AREA)
        top, left = offset(inner, self.target_size, "centre")
        sample.image = on_canvas(sample.image, self.target_size, (top, left), LETTERBOX_FILL)
        sample.pad_offset = (top, left)
        sample.boxes = sample.boxes * np.float32([x, y, x, y]) + np.float32([left, top, left, top])
        return sample


LETTERBOX_FILL = (128.0, 128.0, 128.0)  # PaddleDetection names 127.5, which OpenCV rounds on uint8


def on_canvas(
    image: np.ndarray, size: tuple[int, int], corner: tuple[int, int], fill: tuple[float, ...]
) -> np.ndarray:
    """An image [h, w, 3] on a canvas [*size, 3] of one colour, its corner at `corner` (row, column).

    It stays uint8 where the colour can be, else it is float32.
    """
    kept = image.dtype == np.uint8 and all(value == int(value) and 0 <= value <= 255 for value in fill)
    canvas = np.empty((*size, 3), np.uint8 if kept else np.float32)
    canvas[:] = np.array(fill, canvas.dtype)
    high, wide = image.shape[:2]
    canvas[corner[0] : corner[0] + high, corner[1] : corner[1] + wide] = image
    return canvas
