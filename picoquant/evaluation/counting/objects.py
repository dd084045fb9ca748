"""Annotated objects as columns.

`M` is the number of objects over all images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.data.dataset import Annotations


@dataclass(frozen=True)
class Objects:
    """What COCO counts of annotated objects, in the order of the annotations.

    Attributes:
        image_id, category_id: `[M]` int64.
        boxes: `[M, 4]` float64, x y width height, image pixels.
        area: `[M]` float64, which need not be that of the box.
        is_crowd: `[M]` bool.
    """

    image_id: np.ndarray
    category_id: np.ndarray
    boxes: np.ndarray
    area: np.ndarray
    is_crowd: np.ndarray

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]]) -> Objects:
        """Entries of a COCO annotation file; `area` and `iscrowd` may be absent."""
        entries = list(entries)
        boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
        stated = [entry.get("area") for entry in entries]
        missing = np.array([area is None for area in stated], bool)
        area = np.array([0 if area is None else area for area in stated], np.float64)
        return cls(
            np.array([entry["image_id"] for entry in entries], np.int64),
            np.array([entry["category_id"] for entry in entries], np.int64),
            boxes,
            np.where(missing, boxes[:, 2] * boxes[:, 3], area),
            np.array([bool(entry.get("iscrowd")) for entry in entries], bool),
        )

    @classmethod
    def of_classes(cls, found: Annotations, category_ids: Sequence[int | None]) -> Objects:
        """A data set's objects, with the category id of each class; one without category id has no objects."""
        ids = np.array([number or 0 for number in category_ids], np.int64)
        return cls(found.image_id, ids[found.classes], found.boxes, found.area, found.is_crowd)

    def at(self, rows: np.ndarray | slice) -> Objects:
        """Some of the objects: places, a slice, or `[M]` bool."""
        return Objects(
            self.image_id[rows],
            self.category_id[rows],
            self.boxes[rows],
            self.area[rows],
            self.is_crowd[rows],
        )
