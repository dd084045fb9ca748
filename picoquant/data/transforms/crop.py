"""Cut out a random part of an image that holds at least one object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.data.transforms.sample import Sample
from picoquant.utils import setting_checks as checks


@dataclass(frozen=True)
class RandomCrop:
    """SSD's random crop, https://arxiv.org/abs/1512.02325 section 2.2.

    Source: PaddleDetection, operators.py, `RandomCrop`. The thresholds (smallest IoU that the best
    object, with cover_all_box every object, has with the crop) are tried in random order, each
    num_attempts times; allow_no_crop adds "leave it whole" to them. aspect_ratio and scaling are
    [lowest, highest]; objects whose centre is outside the crop go.
    """

    aspect_ratio: Any = (0.5, 2.0)
    thresholds: Any = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
    scaling: Any = (0.3, 1.0)
    num_attempts: int = 50
    allow_no_crop: bool = True
    cover_all_box: bool = False
    is_mask_crop: bool = False

    def __post_init__(self) -> None:
        if self.aspect_ratio is not None:
            ratio = checks.span("aspect_ratio", self.aspect_ratio)
            object.__setattr__(self, "aspect_ratio", ratio)
        object.__setattr__(self, "thresholds", checks.numbers("thresholds", self.thresholds))
        object.__setattr__(self, "scaling", checks.span("scaling", self.scaling))
        checks.whole("num_attempts", self.num_attempts, 1)
        checks.flag("allow_no_crop", self.allow_no_crop)
        checks.flag("cover_all_box", self.cover_all_box)
        checks.flag("is_mask_crop", self.is_mask_crop)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if not len(sample.boxes):
            return sample
        thresholds: list[float | None] = list(self.thresholds)
        if self.allow_no_crop:
            thresholds.append(None)
        for place in rng.permutation(len(thresholds)):
            threshold = thresholds[place]
            if threshold is None:
                return sample
            for _ in range(self.num_attempts):
                window = self._draw(sample.image.shape[:2], rng)
                if window is not None and self._accept(sample.boxes, window, threshold):
                    return crop(sample, window)
        return sample

    def _draw(
        self, image_size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        """A window x1, y1, x2, y2 in whole pixels, or None when its shape is out of bounds."""
        height, width = image_size
        scale = rng.uniform(*self.scaling)
        if self.aspect_ratio is not None:
            low, high = self.aspect_ratio
            ratio = rng.uniform(max(low, scale**2), min(high, scale**-2))
            part_y, part_x = scale / np.sqrt(ratio), scale * np.sqrt(ratio)
        else:
            part_y, part_x = rng.uniform(*self.scaling), rng.uniform(*self.scaling)
            if not 0.5 <= (height * part_y) / (width * part_x) <= 2.0:
                return None
        high, wide = int(height * part_y), int(width * part_x)
        if high < 1 or wide < 1:
            return None
        y1 = int(rng.integers(0, max(height - high, 1)))
        x1 = int(rng.integers(0, max(width - wide, 1)))
        return x1, y1, x1 + wide, y1 + high

    def _accept(self, boxes: np.ndarray, window: tuple[int, int, int, int], threshold: float) -> bool:
        overlap = _iou(boxes, window)
        if overlap.max() < threshold or (self.cover_all_box and overlap.min() < threshold):
            return False
        return bool(_centre_inside(boxes, window).any())


def crop(sample: Sample, window: tuple[int, int, int, int]) -> Sample:
    """Cut `window` (x1, y1, x2, y2, whole pixels) out; objects with their centre in it stay."""
    x1, y1, x2, y2 = window
    sample.keep(_centre_inside(sample.boxes, window))
    low = np.array([x1, y1, x1, y1], np.float32)
    limit = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1], np.float32)
    sample.boxes = np.clip(sample.boxes - low, 0, limit)
    sample.image = sample.image[y1:y2, x1:x2]
    sample.im_shape = (float(y2 - y1), float(x2 - x1))
    return sample


def _centre_inside(boxes: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centre >= window[:2]) & (centre < window[2:])).all(axis=1)


def _iou(boxes: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """[G] IoU of each box with the window."""
    sides = np.minimum(boxes[:, 2:], window[2:]) - np.maximum(boxes[:, :2], window[:2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    whole = (window[2] - window[0]) * (window[3] - window[1])
    return shared / (areas + whole - shared + 1e-10)
