"""Resize an image, or all images of a batch to one size drawn for the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from picoquant.data.transforms.fit import resize_to
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

    Source: PaddleDetection, ppdet/data/transform/operators.py, `Resize` (2.6 and later). With keep_ratio the image is
    made as large as fits, in whole pixels: its short side at most the smaller target side, its long side at most the
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
        size = self.target_size
        if self.keep_ratio:
            sides = sample.image.shape[:2]
            scale = min(min(size) / min(sides), max(size) / max(sides))
            size = tuple(max(int(side * scale + 0.5), 1) for side in sides)
        scale_y, scale_x = resize_to(sample, size, self.interp)
        if len(sample.boxes):
            high, wide = sample.im_shape
            scales = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
            limit = np.array([wide, high, wide, high], np.float32)
            sample.boxes = np.clip(sample.boxes * scales, 0, limit)
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


@dataclass(frozen=True)
class RandomResize:
    """Resize each image to a size of its own, drawn from target_size.

    Source: PaddleDetection, operators.py, `RandomResize`. With random_range target_size is two of [short side, long
    side]: the short side is drawn between theirs, the long one is the second's and one pixel more where that is
    larger. Images of a batch then differ in size: Pad or PadBatch comes behind it.
    """

    target_size: Any
    keep_ratio: bool = True
    interp: int = cv2.INTER_LINEAR
    random_range: bool = False
    random_size: bool = True
    random_interp: bool = False

    def __post_init__(self) -> None:
        for name in ("keep_ratio", "random_range", "random_size", "random_interp"):
            checks.flag(name, getattr(self, name))
        checks.choice("interp", self.interp, INTERPOLATIONS)
        several = self.random_range or self.random_size
        if several and (not isinstance(self.target_size, (list, tuple)) or not self.target_size):
            raise ConfigError(f"target_size must be a list of sizes, not {self.target_size!r}")
        sizes = tuple(
            checks.size("target_size", size) for size in (self.target_size if several else [self.target_size])
        )
        if self.random_range and (len(sizes) != 2 or sizes[0][0] > sizes[1][0]):
            raise ConfigError(
                f"target_size must be [[smallest short side, long side], [largest short side, long side]] with "
                f"random_range, not {self.target_size!r}"
            )
        object.__setattr__(self, "target_size", sizes)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if self.random_range:
            (low, long), (high, other) = self.target_size
            size = int(rng.integers(low, high + 1)), max(long, other + 1)
        else:
            size = self.target_size[int(rng.integers(len(self.target_size)))]
        interp = INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))] if self.random_interp else self.interp
        return Resize(size, self.keep_ratio, interp)(sample, rng)
