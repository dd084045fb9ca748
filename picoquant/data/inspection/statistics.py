"""Counts of a data set: images, boxes, classes, and how large the network sees the boxes.

M is the number of boxes that are no crowds. Sides are in input pixels, those of an image resized to the network's
input.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picoquant.data.dataset import Dataset, PackedRecords

_PARTS = 5  # boxes are counted below 1, 2, 4, 8 and 16 strides
_ALIKE = 0.01  # image pixels that the sides of two boxes may differ by when they are one box written twice


@dataclass(frozen=True)
class NetworkInput:
    """What an image becomes: height and width of the network's input, pixels; whether the ratio of its sides is kept;
    the smallest stride, input pixels between two anchor points."""

    height: int
    width: int
    keep_ratio: bool
    stride: int

    def sides(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Width and height of boxes in input pixels [M, 2].

        Args:
            boxes: [M, 4] x1 y1 x2 y2, image pixels.
            sizes: [M, 2] width and height of their images.
        """
        scale = np.array([self.width, self.height]) / np.maximum(sizes, 1)
        if self.keep_ratio:
            scale = np.tile(scale.min(axis=1, keepdims=True), 2)
        return (boxes[:, 2:] - boxes[:, :2]) * scale

    def too_small(self, sides: np.ndarray) -> np.ndarray:
        """[M] bool: boxes too small to be learnt, both sides below the smallest stride.

        The network predicts at points one stride apart, and every assigner here (task-aligned, SimOTA, ATSS) makes a
        box the target of points inside it. Such a box holds one point at most, and with sides w and h one of the
        stride's square in w * h / stride ** 2 of all positions only: half a stride wide and high, in one of four. A
        box with one side of at least the stride holds a point in more positions, and thin ones (poles, masts)
        are learnt.
        """
        return (sides < self.stride).all(axis=1)


@dataclass(frozen=True)
class Objects:
    """The boxes of a data set that are no crowds.

    image: [M] places in `Dataset.records`; classes: [M]; boxes: [M, 4] x1 y1 x2 y2, image pixels; sides: [M, 2] width
    and height, input pixels.
    """

    image: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    sides: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, network: NetworkInput) -> Objects:
        """Those of a data set's records."""
        records = dataset.records
        if isinstance(records, PackedRecords):
            counts, crowd = np.diff(records.starts), records.is_crowd
            boxes, classes = records.boxes.astype(np.float64), records.classes.astype(np.int64)
            sizes = np.stack([records.width, records.height], axis=1).astype(np.float64)
        else:
            counts = np.array([len(record.boxes) for record in records], np.int64)
            crowd = np.concatenate([np.zeros(0, bool), *(record.is_crowd for record in records)])
            boxes = np.concatenate([np.zeros((0, 4)), *(record.boxes for record in records)])
            classes = np.concatenate([np.zeros(0, np.int64), *(record.classes for record in records)])
            sizes = np.array([(record.width, record.height) for record in records], np.float64).reshape(-1, 2)
        image = np.repeat(np.arange(len(records)), counts)
        image, boxes, classes = image[~crowd], boxes[~crowd], classes[~crowd]
        return cls(image, classes, boxes, network.sides(boxes, sizes[image]))


@dataclass(frozen=True)
class Statistics:
    """Counts of a data set.

    Attributes:
        images, without_boxes: images that are used, and those of them without a box.
        boxes, crowds: boxes, without the crowds; the crowds.
        classes: name, boxes, and images with a box of each class.
        sizes: limit -> number of boxes whose longer side is below it, and not below the limit before; input pixels,
            None: no limit.
        smallest, median, largest: longer side of a box, input pixels; None without boxes.
        too_small: boxes too small to be learnt (`NetworkInput.too_small`); too_small_example: the first, as text.
        repeated, repeated_example: boxes written more than once (same image, class and place), the first counted once.
    """

    images: int
    without_boxes: int
    boxes: int
    crowds: int
    classes: tuple[tuple[str, int, int], ...]
    sizes: tuple[tuple[int | None, int], ...]
    smallest: float | None
    median: float | None
    largest: float | None
    too_small: int
    too_small_example: str | None
    repeated: int
    repeated_example: str | None


def statistics(dataset: Dataset, network: NetworkInput) -> Statistics:
    """Count what is in a data set, and how large its boxes are for a network."""
    found = Objects.of(dataset, network)
    longer = found.sides.max(axis=1, initial=0)
    small, repeated = network.too_small(found.sides), _repeated(found)
    limits = [network.stride << part for part in range(_PARTS)]
    counts = np.bincount(np.searchsorted(limits, longer, side="right"), minlength=_PARTS + 1).tolist()
    total = dataset.num_boxes
    three = np.quantile(longer, [0, 0.5, 1]).round(1).tolist() if len(longer) else [None] * 3
    return Statistics(
        len(dataset),
        len(dataset) - len(np.unique(found.image)),
        len(longer),
        total - len(longer),
        _classes(found, dataset),
        tuple(zip([*limits, None], counts)),
        *three,
        int(small.sum()),
        _example(found, small, dataset),
        int(repeated.sum()),
        _example(found, repeated, dataset),
    )


def _classes(found: Objects, dataset: Dataset) -> tuple[tuple[str, int, int], ...]:
    boxes = np.bincount(found.classes, minlength=dataset.num_classes).tolist()
    pairs = np.unique(np.stack([found.classes, found.image]), axis=1)[0]
    images = np.bincount(pairs, minlength=dataset.num_classes).tolist()
    return tuple(zip(dataset.class_names, boxes, images))


def _repeated(found: Objects) -> np.ndarray:
    """[M] bool: boxes of which an earlier one has the same image, class and place."""
    rows = np.column_stack([found.image, found.classes, np.round(found.boxes / _ALIKE)]).astype(np.int64)
    order = np.lexsort(rows.T)
    again = np.zeros(len(rows), bool)
    again[order[1:]] = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    return again


def _example(found: Objects, chosen: np.ndarray, dataset: Dataset) -> str | None:
    """The first of some boxes [M] bool: its image, class and place."""
    if not chosen.any():
        return None
    place = int(np.flatnonzero(chosen)[0])
    numbers = ", ".join(f"{number:.6g}" for number in found.boxes[place])
    width, height = found.sides[place]
    name = dataset.class_names[found.classes[place]]
    image = Path(dataset.records[found.image[place]].path).name
    return f"{name} [{numbers}] of image {image}, {width:.1f}x{height:.1f} in the input"
