"""The detections of a data set as entries of a COCO results file, held as columns: an eighth of what mappings take.

`K` is the number of detections over all images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from picoquant.postprocess import Detections

_PART = 1 << 15  # entries made at a time


@dataclass(frozen=True, eq=False)
class Results(Sequence[dict[str, Any]]):
    """Entries `image_id`, `category_id`, `bbox`, `score`, which are made when they are asked for.

    Equal to any sequence of the same entries.

    Attributes:
        image_id, category_id: `[K]` int64.
        boxes: `[K, 4]` float64, x y width height, image pixels.
        scores: `[K]`.
    """

    image_id: np.ndarray
    category_id: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]]) -> Results:
        """The same entries as columns; what `entries` says beside the four keys is left out."""
        if isinstance(entries, Results):
            return entries
        return cls(
            np.array([entry["image_id"] for entry in entries], np.int64),
            np.array([entry["category_id"] for entry in entries], np.int64),
            np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4),
            np.array([entry["score"] for entry in entries], np.float64),
        )

    def chosen(self, rows: np.ndarray) -> Results:
        """Some of the entries: places, or `[K]` bool."""
        return Results(self.image_id[rows], self.category_id[rows], self.boxes[rows], self.scores[rows])

    def __len__(self) -> int:
        return len(self.image_id)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> Results: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | Results:
        if isinstance(place, slice):
            return self.chosen(np.arange(len(self))[place])
        return next(self._entries(np.array([range(len(self))[place]])))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _PART):
            yield from self._entries(np.arange(start, min(start + _PART, len(self))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other))

    def _entries(self, rows: np.ndarray) -> Iterator[dict[str, Any]]:
        columns = (self.image_id, self.category_id, self.boxes, self.scores)
        for image, category, box, score in zip(*(column[rows].tolist() for column in columns)):
            yield {"image_id": image, "category_id": category, "bbox": box, "score": score}

    def json_parts(self, dataset: Any) -> Iterator[str]:
        """The text of a COCO results file with the ids of a data set's own annotation file, in parts to be joined.

        Args:
            dataset: a `picoquant.data.dataset.Dataset`.
        """
        yield "["
        for start in range(0, len(self), _PART):
            part = self[start : start + _PART]
            renamed = dataset.own_image_ids or dataset.own_category_ids
            entries = dataset.with_own_ids(part) if renamed else list(part)
            yield (", " if start else "") + json.dumps(entries)[1:-1]  # ten times as fast as json.dump
        yield "]"


class ResultsOf:
    """Collects the detections of one image after the other.

    Args:
        category_ids: the annotations' category id of each class index; detections of a class with None are left out.
    """

    def __init__(self, category_ids: Sequence[int | None]) -> None:
        self._known = np.array([number is not None for number in category_ids], bool)
        self._category = np.array([number or 0 for number in category_ids], np.int64)
        self._images: list[tuple[int, int]] = []
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, image_id: int, found: Detections) -> None:
        """Add the detections of an image, boxes `[x1, y1, x2, y2]` in its pixels."""
        known = self._known[found.classes]
        boxes = found.boxes[known].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        self._images.append((int(image_id), len(boxes)))
        self._parts.append((self._category[found.classes[known]], boxes, found.scores[known]))

    def results(self) -> Results:
        """Everything that was added, in its order."""
        numbers, counts = np.array(self._images, np.int64).reshape(-1, 2).T
        none = (np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0, np.float32))
        category, boxes, scores = (np.concatenate(column) for column in zip(none, *self._parts))
        return Results(np.repeat(numbers, counts), category, boxes, scores)
