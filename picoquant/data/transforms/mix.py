"""Two images in one: blended, or a part of the second put into the first.

PaddleDetection gives the objects of both a weight, `gt_score`, by the image's share. PicoDet's losses do not read it:
its head gives it to the assigners (pico_head.py, `PicoHeadV2.get_loss`), where ATSS takes the predicted boxes' IoU
instead and the task-aligned one leaves it aside, and the older head never had it. So there is none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import numpy as np

from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks


@dataclass(frozen=True)
class _OfTwo:
    """alpha, beta: of the beta distribution that the first image's share is drawn from."""

    alpha: float = 1.5
    beta: float = 1.5

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            if checks.number(name, getattr(self, name)) <= 0:
                raise ConfigError(f"{name} must be greater than 0, not {getattr(self, name)!r}")

    def _share(self, rng: np.random.Generator) -> float:
        return float(rng.beta(self.alpha, self.beta))


@dataclass(frozen=True)
class Mixup(_OfTwo):
    """Blend two images, the smaller one in the upper left, black beyond it; the objects of both stay.

    Source: PaddleDetection, operators.py, `Mixup` (https://arxiv.org/abs/1710.09412). It works in the epochs before
    TrainReader.mixup_epoch. Returns uint8.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator, another: Callable[[], Sample]) -> Sample:
        share = self._share(rng)
        if share >= 1:
            return sample
        other = another()
        return other if share <= 0 else mixed(sample, other, share)


@dataclass(frozen=True)
class Cutmix(_OfTwo):
    """Put a part of a second image in the place of the same part of the first; the objects of both stay whole.

    Source: PaddleDetection, operators.py, `Cutmix` (https://arxiv.org/abs/1905.04899), which does not cut boxes
    either. It works in the epochs before TrainReader.cutmix_epoch in which Mixup does not.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator, another: Callable[[], Sample]) -> Sample:
        share = self._share(rng)
        if share >= 1:
            return sample
        other = another()
        if share <= 0:
            return other
        height, width = _common(sample, other)
        centre = int(rng.integers(width)), int(rng.integers(height))
        return cut_in(sample, other, window(share, (height, width), centre))


def mixed(first: Sample, second: Sample, share: float) -> Sample:
    """`share` of `first`, the rest of `second`."""
    height, width = _common(first, second)
    image = np.zeros((height, width, 3), np.float32)
    for sample, weight in ((first, share), (second, 1 - share)):
        high, wide = sample.image.shape[:2]
        image[:high, :wide] += sample.image.astype(np.float32) * np.float32(weight)
    # Colours may have left 0 to 255 in a transform before: PaddleDetection's would wrap round.
    return _together(first, second, np.clip(image, 0, 255).astype(np.uint8))


def window(share: float, size: tuple[int, int], centre: tuple[int, int]) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the part that is 1 - `share` of `size` (height, width), around `centre` (x, y), clipped."""
    side = np.sqrt(1.0 - share)
    half = int(size[1] * side) // 2, int(size[0] * side) // 2
    limit = size[1] - 1, size[0] - 1
    low = [min(max(centre[axis] - half[axis], 0), limit[axis]) for axis in (0, 1)]
    high = [min(max(centre[axis] + half[axis], 0), limit[axis]) for axis in (0, 1)]
    return low[0], low[1], high[0], high[1]


def cut_in(first: Sample, second: Sample, part: tuple[int, int, int, int]) -> Sample:
    """`first` with `part` (x1, y1, x2, y2) of `second` in it; both in the upper left, black beyond them."""
    height, width = _common(first, second)
    kind = np.result_type(first.image, second.image)
    canvases = [np.zeros((height, width, 3), kind) for _ in range(2)]
    for canvas, sample in zip(canvases, (first, second)):
        high, wide = sample.image.shape[:2]
        canvas[:high, :wide] = sample.image
    x1, y1, x2, y2 = part
    canvases[0][y1:y2, x1:x2] = canvases[1][y1:y2, x1:x2]
    return _together(first, second, canvases[0])


def _common(first: Sample, second: Sample) -> tuple[int, int]:
    """Height and width that hold both images."""
    (height, width), (high, wide) = first.image.shape[:2], second.image.shape[:2]
    return max(height, high), max(width, wide)


def _together(first: Sample, second: Sample, image: np.ndarray) -> Sample:
    return Sample(
        image=image,
        path=first.path,
        image_id=first.image_id,
        boxes=np.concatenate([first.boxes, second.boxes]),
        classes=np.concatenate([first.classes, second.classes]),
        im_shape=(float(image.shape[0]), float(image.shape[1])),
        scale_factor=first.scale_factor,
    )
