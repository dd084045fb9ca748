"""Mirror an image left to right."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from picoquant.data.transforms.sample import Sample
from picoquant.utils import setting_checks as checks


@dataclass(frozen=True)
class RandomFlip:
    """Mirror with probability `prob`. Source: PaddleDetection, operators.py, `RandomFlip`."""

    prob: float = 0.5

    def __post_init__(self) -> None:
        checks.fraction("prob", self.prob)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return mirror(sample) if rng.random() < self.prob else sample


def mirror(sample: Sample) -> Sample:
    """Mirror an image and its boxes left to right."""
    width = sample.image.shape[1]
    sample.image = cv2.flip(sample.image, 1)
    if len(sample.boxes):
        boxes = sample.boxes.copy()
        boxes[:, 0], boxes[:, 2] = width - sample.boxes[:, 2], width - sample.boxes[:, 0]
        sample.boxes = boxes
    return sample
