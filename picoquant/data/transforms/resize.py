"""Resize an image, or all images of a batch to one size drawn for the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks

INTERPOLATIONS = (
    cv2.INTER_NEAREST,
    cv2.INTER_LINEAR,
    cv2.INTER_CUBIC,
    cv2.INTER_AREA,
    cv2.INTER_LANCZOS4,
)  # OpenCV's numbers 0 to 4, which PaddleDetection's `interp` uses


@dataclass(frozen=True)
class Resize:
    """Resize to target_size (height, width).

    Source: PaddleDetection, ppdet/data/transform/operators.py, `Resize`. With keep_ratio the image is
    made as large as fits: its short side at most the smaller target side, its long side at most the
    larger. Boxes are scaled and clipped. The image keeps its number type.
    """

    target_size: Any
    keep_ratio: bool
    interp: int = cv2.INTER_LINEAR

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_size", checks.size("target_size", self.target_size))
        checks.flag("keep_ratio", self.keep_ratio)
        checks.choice("interp", self.interp, INTERPOLATIONS)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = sample.image.shape[:2]
        if self.keep_ratio:
            ratio = min(
                min(self.target_size) / min(height, width),
                max(self.target_size) / max(height, width),
            )
            scale_y = scale_x = ratio
            sample.im_shape = (ratio * height, ratio * width)
        else:
            scale_y, scale_x = self.target_size[0] / height, self.target_size[1] / width
            sample.im_shape = (float(self.target_size[0]), float(self.target_size[1]))
        if (scale_y, scale_x) != (1.0, 1.0):
            sample.image = cv2.resize(sample.image, None, fx=scale_x, fy=scale_y, interpolation=self.interp)
        sample.scale_factor = (
            sample.scale_factor[0] * scale_y,
            sample.scale_factor[1] * scale_x,
        )
        if len(sample.boxes):
            high, wide = sample.im_shape
            scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
            limit = np.array([wide, high, wide, high], np.float32)
            sample.boxes = np.clip(sample.boxes * scale, 0, limit)
        return sample


@dataclass(frozen=True)
class BatchRandomResize:
    """Resize all images of a batch to one size, drawn from target_size when random_size.

    Source: PaddleDetection, ppdet/data/transform/batch_operators.py, `BatchRandomResize`. With
    random_interp the interpolation is drawn too, out of all five. An image that is uint8 stays uint8
    (the original resizes a float copy, which costs four times as much).
    """

    target_size: Any
    keep_ratio: bool
    interp: int = cv2.INTER_NEAREST
    random_size: bool = True
    random_interp: bool = False

    def __post_init__(self) -> None:
        checks.flag("keep_ratio", self.keep_ratio)
        checks.flag("random_size", self.random_size)
        checks.flag("random_interp", self.random_interp)
        checks.choice("interp", self.interp, INTERPOLATIONS)
        if self.random_size:
            if not isinstance(self.target_size, (list, tuple)) or not self.target_size:
                raise ConfigError(
                    f"target_size must be a list of sizes with random_size, not {self.target_size!r}"
                )
            sizes = tuple(checks.size("target_size", size) for size in self.target_size)
        else:
            sizes = (checks.size("target_size", self.target_size),)
        object.__setattr__(self, "target_size", sizes)

    def __call__(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        size = self.target_size[int(rng.integers(len(self.target_size)))]
        interp = self.interp
        if self.random_interp:
            interp = INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))]
        resize = Resize(size, self.keep_ratio, interp)
        return [resize(sample, rng) for sample in samples]
