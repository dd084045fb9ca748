"""Change brightness, contrast, saturation and hue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from picoquant.data.transforms.sample import Sample
from picoquant.utils import setting_checks as checks

# RGB to YIQ and back, with the rounded coefficients of PaddleDetection.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_FROM_YIQ = np.array([[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.107, 1.705]])
_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class RandomDistort:
    """Distort colours in random order.

    Source: PaddleDetection, operators.py, `RandomDistort`. hue, saturation, contrast and brightness
    are [lowest, highest, probability of leaving it out]. All four are affine in RGB, so they are
    multiplied into one matrix and the image is gone through once. The result is float32 and, as in
    the original, may leave 0..255.
    """

    hue: Any = (-18.0, 18.0, 0.5)
    saturation: Any = (0.5, 1.5, 0.5)
    contrast: Any = (0.5, 1.5, 0.5)
    brightness: Any = (0.5, 1.5, 0.5)
    random_apply: bool = True
    count: int = 4
    random_channel: bool = False

    def __post_init__(self) -> None:
        for name in ("hue", "saturation", "contrast", "brightness"):
            object.__setattr__(self, name, checks.numbers(name, getattr(self, name), 3))
        checks.flag("random_apply", self.random_apply)
        checks.flag("random_channel", self.random_channel)
        checks.whole("count", self.count, 0)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        matrix = np.eye(4)
        for step in self._order(rng):
            low, high, leave_out = getattr(self, step)
            if rng.random() >= leave_out:
                matrix = MATRICES[step](rng.uniform(low, high)) @ matrix
        if self.random_channel and not self.random_apply and rng.integers(2):
            matrix = np.eye(4)[[*rng.permutation(3), 3]] @ matrix
        if not np.array_equal(matrix, np.eye(4)):
            image = sample.image.astype(np.float32)
            sample.image = cv2.transform(image, matrix[:3])
        return sample

    def _order(self, rng: np.random.Generator) -> list[str]:
        if self.random_apply:
            steps = ["brightness", "contrast", "saturation", "hue"]
            return [steps[place] for place in rng.permutation(4)[: self.count]]
        if rng.integers(2):
            return ["brightness", "contrast", "saturation", "hue"]
        return ["brightness", "saturation", "hue", "contrast"]


def brightness_matrix(delta: float) -> np.ndarray:
    """[4, 4] affine map of RGB that adds `delta` to every channel."""
    matrix = np.eye(4)
    matrix[:3, 3] = delta
    return matrix


def contrast_matrix(factor: float) -> np.ndarray:
    """[4, 4] affine map of RGB that multiplies every channel."""
    return np.diag([factor, factor, factor, 1.0])


def saturation_matrix(factor: float) -> np.ndarray:
    """[4, 4] affine map of RGB between its grey (factor 0) and itself (factor 1)."""
    matrix = np.eye(4)
    matrix[:3, :3] = factor * np.eye(3) + (1 - factor) * _GREY
    return matrix


def hue_matrix(turn: float) -> np.ndarray:
    """[4, 4] affine map of RGB that turns the colour plane of YIQ by `turn` half circles."""
    cos, sin = np.cos(turn * np.pi), np.sin(turn * np.pi)
    plane = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    matrix = np.eye(4)
    matrix[:3, :3] = _FROM_YIQ @ plane @ _TO_YIQ
    return matrix


MATRICES = {
    "brightness": brightness_matrix,
    "contrast": contrast_matrix,
    "saturation": saturation_matrix,
    "hue": hue_matrix,
}
