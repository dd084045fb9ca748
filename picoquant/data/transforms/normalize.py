"""From pixels to what the network takes: scaled float32, channels first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from picoquant.data.preparation import MEAN, STD
from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks


@dataclass(frozen=True)
class NormalizeImage:
    """Scale to 0..1 when is_scale, then (pixel - mean) / std unless norm_type is none.

    Source: PaddleDetection, operators.py, `NormalizeImage`, equal to the bit. A uint8 image has 256
    levels, so the sum is a table. The result is a float32 [H, W, 3] view of memory laid out as
    [3, H, W]: the `Permute` behind it costs nothing.
    """

    mean: Any = MEAN
    std: Any = STD
    is_scale: bool = True
    norm_type: str = "mean_std"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", checks.numbers("mean", self.mean, 3))
        object.__setattr__(self, "std", checks.numbers("std", self.std, 3))
        checks.flag("is_scale", self.is_scale)
        checks.choice("norm_type", self.norm_type, ("mean_std", "none"))
        if 0 in self.std:
            raise ConfigError(f"std must have no 0, not {list(self.std)}")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        image = sample.image
        planes = np.empty((3, *image.shape[:2]), np.float32)
        table = self.levels() if image.dtype == np.uint8 else None
        for channel in range(3):
            plane = cv2.extractChannel(image, channel)
            if table is not None:
                cv2.LUT(plane, table[channel], dst=planes[channel])
            else:
                planes[channel] = self._normalize(plane, channel)
        sample.image = planes.transpose(1, 2, 0)
        return sample

    def levels(self) -> np.ndarray:
        """[3, 256] float32: what each of the 256 levels of a channel becomes."""
        steps = np.arange(256, dtype=np.float32)
        return np.stack([self._normalize(steps, channel) for channel in range(3)])

    def of_colour(self, colour: Sequence[float]) -> tuple[float, float, float]:
        """What a colour (R, G, B, 0 to 255) becomes."""
        red, green, blue = (
            float(self._normalize(np.array([value]), channel)[0]) for channel, value in enumerate(colour)
        )
        return red, green, blue

    def _normalize(self, values: np.ndarray, channel: int) -> np.ndarray:
        """The original works in float32, but subtracts and divides with double mean and std."""
        values = values.astype(np.float32)
        if self.is_scale:
            values *= np.float32(1.0 / 255.0)
        if self.norm_type == "mean_std":
            if self.mean[channel] != 0:
                values = (values.astype(np.float64) - self.mean[channel]).astype(np.float32)
            if self.std[channel] != 1:
                values = (values.astype(np.float64) / self.std[channel]).astype(np.float32)
        return values


@dataclass(frozen=True)
class Permute:
    """[H, W, 3] to [3, H, W]."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        sample.image = sample.image.transpose(2, 0, 1)
        return sample
