"""Shift hue, saturation and value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks

_LEVELS = np.arange(256, dtype=np.float64)


@dataclass(frozen=True)
class AugmentHSV:
    """Add to (hgain, sgain, vgain) or multiply (fraction) the channels of HSV.

    Source: PaddleDetection, operators.py, `AugmentHSV`. Gains: each channel is shifted, with
    probability 1/2, by up to ± its gain. Without gains saturation and value are multiplied by up to
    1 ± fraction. As a channel has 256 levels, the shift is a table. Returns uint8.
    """

    fraction: float = 0.5
    is_bgr: bool = True
    hgain: Any = None
    sgain: Any = None
    vgain: Any = None

    def __post_init__(self) -> None:
        checks.fraction("fraction", self.fraction)
        checks.flag("is_bgr", self.is_bgr)
        gains = (self.hgain, self.sgain, self.vgain)
        if any(gain is not None for gain in gains):
            if any(gain is None for gain in gains):
                raise ConfigError("hgain, sgain and vgain go together: give all three or none")
            for name in ("hgain", "sgain", "vgain"):
                checks.number(name, getattr(self, name))

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        table = self._additive(rng) if self.hgain is not None else self._multiplicative(rng)
        if table is not None:
            sample.image = apply_hsv_table(sample.image, table, self.is_bgr)
        return sample

    def _additive(self, rng: np.random.Generator) -> np.ndarray | None:
        shift = rng.uniform(-1, 1, 3) * (self.hgain, self.sgain, self.vgain)
        shift *= rng.integers(0, 2, 3)
        return shift_table(shift) if shift.any() else None

    def _multiplicative(self, rng: np.random.Generator) -> np.ndarray:
        return scale_table(rng.uniform(1 - self.fraction, 1 + self.fraction, 2))


def shift_table(shift: np.ndarray) -> np.ndarray:
    """[1, 256, 3] uint8: hue turned (it has 180 steps), saturation and value moved and clipped."""
    table = np.empty((1, 256, 3), np.uint8)
    table[0, :, 0] = (_LEVELS + shift[0]) % 180
    table[0, :, 1:] = np.clip(_LEVELS[:, None] + shift[1:], 0, 255)
    return table


def scale_table(factors: np.ndarray) -> np.ndarray:
    """[1, 256, 3] uint8: hue as it is, saturation and value multiplied and clipped."""
    table = np.empty((1, 256, 3), np.uint8)
    table[0, :, 0] = _LEVELS
    table[0, :, 1:] = np.clip(_LEVELS[:, None] * factors, 0, 255)
    return table


def apply_hsv_table(image: np.ndarray, table: np.ndarray, is_bgr: bool) -> np.ndarray:
    """Look the HSV channels of [H, W, 3] up in `table`; returns uint8."""
    if image.dtype != np.uint8:
        image = np.clip(image, 0, 255).astype(np.uint8)
    there = cv2.COLOR_BGR2HSV if is_bgr else cv2.COLOR_RGB2HSV
    back = cv2.COLOR_HSV2BGR if is_bgr else cv2.COLOR_HSV2RGB
    hsv = cv2.cvtColor(image, there)
    return cv2.cvtColor(cv2.LUT(hsv, table), back)
