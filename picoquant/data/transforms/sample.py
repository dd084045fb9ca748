"""What goes from transform to transform.

G is the number of objects. Images are RGB, [H, W, 3], until `Permute` makes them [3, H, W].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable

import numpy as np


def _no_boxes() -> np.ndarray:
    return np.zeros((0, 4), np.float32)


def _no_classes() -> np.ndarray:
    return np.zeros((0,), np.int32)


@dataclass
class Sample:
    """One image on its way into a batch.

    image: uint8 as decoded, or float32 after a transform that leaves 0..255; never written to in place,
    as it may be shared with a cache.
    boxes: [G, 4] float32, x1, y1, x2, y2 in pixels of `image`; classes: [G] int32.
    im_shape: (height, width) after resizing; scale_factor: (y, x), that size by the file's; pad_offset: rows and
    columns of padding above and left of the image.
    """

    image: np.ndarray
    path: str = ""
    image_id: int = 0
    boxes: np.ndarray = field(default_factory=_no_boxes)
    classes: np.ndarray = field(default_factory=_no_classes)
    im_shape: tuple[float, float] = (0.0, 0.0)
    scale_factor: tuple[float, float] = (1.0, 1.0)
    pad_offset: tuple[int, int] = (0, 0)

    def keep(self, chosen: np.ndarray) -> None:
        """Keep the objects that `chosen` ([G] bool or indices) selects."""
        self.boxes, self.classes = self.boxes[chosen], self.classes[chosen]

    def drop_flat_boxes(self) -> None:
        """Leave out boxes without area: no anchor lies inside one, so none can learn from it."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        solid = (sides > 0).all(axis=1)
        if not solid.all():
            self.keep(solid)


@dataclass(frozen=True)
class EachSample:
    """A transform of one sample, applied to each of a batch."""

    transform: Callable[[Sample, np.random.Generator], Sample]

    def __call__(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        return [self.transform(sample, rng) for sample in samples]
