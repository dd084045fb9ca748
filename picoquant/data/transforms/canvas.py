"""Put an image on a larger canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.data.preparation import PLACES
from picoquant.data.transforms.fit import offset, on_canvas
from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks


def _colour(value: Any) -> tuple[float, ...]:
    if isinstance(value, (list, tuple)):
        return checks.numbers("fill_value", value, 3)
    return (checks.number("fill_value", value),) * 3


@dataclass(frozen=True)
class Pad:
    """Pad to `size` (height, width), or without one to a multiple of size_divisor, with a colour.

    Source: PaddleDetection, operators.py, `Pad`. pad_mode: 0 pads right and below, 1 on all sides, 2 left and above,
    -1 puts the image at offsets (x, y).
    """

    size: Any = None
    size_divisor: int = 32
    pad_mode: int = 0
    offsets: Any = None
    fill_value: Any = (127.5, 127.5, 127.5)

    def __post_init__(self) -> None:
        if self.size is not None:
            object.__setattr__(self, "size", checks.size("size", self.size))
        checks.whole("size_divisor", self.size_divisor, 1)
        checks.choice("pad_mode", self.pad_mode, (-1, *range(len(PLACES))))
        object.__setattr__(self, "fill_value", _colour(self.fill_value))
        if self.pad_mode == -1:
            pair = checks.numbers("offsets", self.offsets, 2)
            if any(value < 0 or value != int(value) for value in pair):
                raise ConfigError(f"offsets must be whole numbers from 0, not {self.offsets!r}")
            object.__setattr__(self, "offsets", (int(pair[0]), int(pair[1])))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        inner = sample.image.shape[:2]
        size = self.size or tuple(side + -side % self.size_divisor for side in inner)
        corner = offset(inner, size, PLACES[self.pad_mode]) if self.pad_mode >= 0 else self.offsets[::-1]
        if any(at < 0 or at + side > whole for at, side, whole in zip(corner, inner, size)):
            raise ConfigError(
                f"Pad: the image {sample.path} is {inner[0]}x{inner[1]} (height x width) there and does not fit into "
                f"{size[0]}x{size[1]}; resize it to fit before"
            )
        return put_on(sample, size, corner, self.fill_value)


@dataclass(frozen=True)
class RandomExpand:
    """Put the image somewhere on a canvas up to `ratio` times as large.

    Source: PaddleDetection, operators.py, `RandomExpand`: `prob` is the probability of leaving it out.
    """

    ratio: float = 4.0
    prob: float = 0.5
    fill_value: Any = (127.5, 127.5, 127.5)

    def __post_init__(self) -> None:
        if checks.number("ratio", self.ratio) <= 1.01:
            raise ConfigError(f"ratio must be greater than 1.01, not {self.ratio!r}")
        checks.fraction("prob", self.prob)
        object.__setattr__(self, "fill_value", _colour(self.fill_value))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        if rng.random() < self.prob:
            return sample
        height, width = sample.image.shape[:2]
        ratio = rng.uniform(1.0, self.ratio)
        high, wide = int(height * ratio), int(width * ratio)
        if high <= height or wide <= width:
            return sample
        corner = int(rng.integers(0, high - height)), int(rng.integers(0, wide - width))
        return put_on(sample, (high, wide), corner, self.fill_value)


def put_on(sample: Sample, size: tuple[int, int], corner: tuple[int, int], fill: tuple[float, ...]) -> Sample:
    """Put image and boxes on a canvas of `size` (height, width), with the corner at `corner` (row, column)."""
    if tuple(size) == sample.image.shape[:2]:
        return sample
    sample.image = on_canvas(sample.image, size, corner, fill)
    top, left = corner
    sample.boxes = sample.boxes + np.float32([left, top, left, top])
    sample.pad_offset = (sample.pad_offset[0] + top, sample.pad_offset[1] + left)
    sample.im_shape = (float(size[0]), float(size[1]))
    return sample
