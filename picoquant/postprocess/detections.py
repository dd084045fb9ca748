"""The detections of one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Detections:
    """`M` detections of one image, sorted by class, then by score (best first).

    Attributes:
        classes: `[M]` int64, class indices.
        scores: `[M]` float32, 0 to 1.
        boxes: `[M, 4]` float32, x1 y1 x2 y2, image pixels, not clipped to the image.
    """

    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.classes)
        if self.scores.shape != (count,) or self.boxes.shape != (count, 4):
            raise ValueError(
                f"{count} classes, scores {self.scores.shape} and boxes {self.boxes.shape} "
                "do not belong together"
            )

    def __len__(self) -> int:
        return len(self.classes)
