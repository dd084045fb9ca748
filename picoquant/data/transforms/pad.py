"""Bring the samples of a batch to one shape.

N is the number of images, G the largest number of objects among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picoquant.data.transforms.sample import Sample
from picoquant.utils import setting_checks as checks


@dataclass(frozen=True)
class PadBatch:
    """Pad images ([3, H, W]) right and below with 0 to the largest, and to a multiple of a stride.

    Source: PaddleDetection, batch_operators.py, `PadBatch`.
    """

    pad_to_stride: int = 0

    def __post_init__(self) -> None:
        checks.whole("pad_to_stride", self.pad_to_stride, 0)

    def __call__(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        height, width = np.max([sample.image.shape[1:] for sample in samples], axis=0)
        if self.pad_to_stride:
            height += -height % self.pad_to_stride
            width += -width % self.pad_to_stride
        for sample in samples:
            channels, high, wide = sample.image.shape
            if (high, wide) != (height, width):
                padded = np.zeros((channels, height, width), np.float32)
                padded[:, :high, :wide] = sample.image
                sample.image = padded
        return samples


@dataclass(frozen=True)
class PadGT:
    """Says that a batch's objects are padded to one number; `ReaderSettings` takes it as given.

    Source: PaddleDetection, batch_operators.py, `PadGT`. Readers for training always pad (see
    `pad_ground_truth`), so there is nothing left to do here.
    """

    return_gt_mask: bool = True

    def __post_init__(self) -> None:
        checks.flag("return_gt_mask", self.return_gt_mask)

    def __call__(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        return samples


def pad_ground_truth(samples: list[Sample]) -> dict[str, np.ndarray]:
    """Objects of a batch padded with 0 to the largest number of them.

    A batch without objects gets one row that the mask leaves out, as operators with a dimension of 0
    fail on some devices.

    Returns: gt_bbox [N, G, 4] float32 input pixels, gt_class [N, G, 1] int32, pad_gt_mask [N, G, 1]
    float32 with 1 where there is an object.
    """
    count, most = len(samples), max(1, max(len(sample.boxes) for sample in samples))
    boxes = np.zeros((count, most, 4), np.float32)
    classes = np.zeros((count, most, 1), np.int32)
    mask = np.zeros((count, most, 1), np.float32)
    for place, sample in enumerate(samples):
        objects = len(sample.boxes)
        boxes[place, :objects] = sample.boxes
        classes[place, :objects, 0] = sample.classes
        mask[place, :objects] = 1
    return {"gt_bbox": boxes, "gt_class": classes, "pad_gt_mask": mask}
