"""The detections of a data set as entries of a COCO results file, held as columns: an eighth of what mappings take.

`K` is the number of detections over all images.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from picoquant.data.dataset import Dataset
from picoquant.postprocess import Detections
from picoquant.utils.helpers.helpers import Helpers

_PART = 1 << 15  # entries made at a time
_AT_ONCE = 16  # parts that are shared out
_RATE = 300e3  # entries a second that a process writes as JSON, about
SMALL = 0.8  # seconds of work for which no process is started, as that takes a third of it


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

    @classmethod
    def joined(cls, parts: Sequence[Results]) -> Results:
        """The entries of all parts, of which there is one at least, one behind the other."""
        return cls(*(np.concatenate(column) for column in zip(*(part.columns for part in parts))))

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """All attributes."""
        return self.image_id, self.category_id, self.boxes, self.scores

    def at(self, rows: np.ndarray | slice) -> Results:
        """Some of the entries: places, a slice (then the memory is the same), or `[K]` bool."""
        return Results(*(column[rows] for column in self.columns))

    def least(self, score: float) -> Results:
        """The entries with at least this score."""
        return self.at(self.scores.astype(np.float64) >= score)

    def __len__(self) -> int:
        return len(self.image_id)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> Results: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | Results:
        if isinstance(place, slice):
            return self.at(place)
        return next(self._entries(np.array([range(len(self))[place]])))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _PART):
            yield from self._entries(np.arange(start, min(start + _PART, len(self))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other))

    def _entries(self, rows: np.ndarray) -> Iterator[dict[str, Any]]:
        for image, category, box, score in zip(*(column[rows].tolist() for column in self.columns)):
            yield {"image_id": image, "category_id": category, "bbox": box, "score": score}

    def json_parts(self, dataset: Any) -> Iterator[str]:
        """The text of a COCO results file with the ids of a data set's own annotation file, in parts to be joined.

        Several processes make it where that is worth their start.

        Args:
            dataset: a `picoquant.data.dataset.Dataset`.
        """
        yield "["
        starts = range(0, len(self), _PART)
        parts = [_Part(self[start : start + _PART], dataset) for start in starts]
        few = len(self) / _RATE < SMALL
        with Helpers() as helpers:
            for first in range(0, len(parts), _AT_ONCE):
                some = parts[first : first + _AT_ONCE]
                seconds = 0.0 if few else sum(len(part.entries) for part in some) / _RATE
                for text in helpers.share(_texts, some, seconds):
                    yield (", " if first else "") + text
                    first = 1
        yield "]"


def to_bytes(images: int, results: Results) -> bytes:
    """What one process tells another: its number of images, and what it found in them."""
    content = io.BytesIO()
    np.savez(content, images, *results.columns)
    return content.getvalue()


def from_bytes(content: bytes) -> tuple[int, Results]:
    """The arguments of `to_bytes`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as columns:
        images, *rest = (columns[f"arr_{number}"] for number in range(5))
    return int(images), Results(*rest)


@dataclass(frozen=True)
class _Part:
    """Entries with a `picoquant.data.dataset.Dataset`, of which nothing but its own ids of these is sent with them."""

    entries: Results
    dataset: Any

    def __getstate__(self) -> dict[str, Any]:
        images = self.dataset.own_image_ids
        if images:
            images = {
                number: images[number] for number in set(self.entries.image_id.tolist()) if number in images
            }
        names = Dataset((), (), (), own_image_ids=images, own_category_ids=self.dataset.own_category_ids)
        return {"entries": self.entries, "dataset": names}


_ENTRY = '{"image_id": %d, "category_id": %d, "bbox": %r, "score": %r}'


def _texts(parts: Sequence[_Part]) -> list[str]:
    """The entries of each part as JSON, without the brackets of a list."""
    return [_text(part.entries, part.dataset) for part in parts]


def _text(entries: Results, dataset: Any) -> str:
    renamed = dataset.own_image_ids or dataset.own_category_ids
    if renamed or not (np.isfinite(entries.boxes).all() and np.isfinite(entries.scores).all()):
        return json.dumps(dataset.with_own_ids(entries))[1:-1]  # ten times as fast as json.dump
    # Python's text of a finite number is JSON's; in four fifths of the time.
    return ", ".join([_ENTRY % entry for entry in zip(*(column.tolist() for column in entries.columns))])


class ResultsOf:
    """Collects the detections of one image after the other.

    Args:
        category_ids: the annotations' category id of each class index; detections of a class with None are left out.
    """

    def __init__(self, category_ids: Sequence[int | None]) -> None:
        self._known = np.array([number is not None for number in category_ids], bool)
        self._category = np.array([number or 0 for number in category_ids], np.int64)
        self._columns: list[list[np.ndarray]] = [
            [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 4))], [np.zeros(0, np.float32)]
        ]  # fmt: skip
        self._waiting: list[Results] = []
        self._rows = 0  # of those that wait

    def add(self, image_id: int, found: Detections) -> None:
        """Add the detections of an image, boxes `[x1, y1, x2, y2]` in its pixels."""
        known = self._known[found.classes]
        boxes = found.boxes[known].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        images = np.full(len(boxes), image_id, np.int64)
        self._waiting.append(
            Results(images, self._category[found.classes[known]], boxes, found.scores[known])
        )
        self._rows += len(boxes)
        if self._rows >= _PART:  # few large arrays, not four an image
            self._settle()

    def _settle(self) -> None:
        if self._waiting:
            for column, values in zip(self._columns, zip(*(part.columns for part in self._waiting))):
                column.append(np.concatenate(values))
            self._waiting, self._rows = [], 0

    def results(self) -> Results:
        """Everything that was added, in its order."""
        self._settle()
        for column in self._columns:  # one is in memory twice at a time, not all
            column[:] = [np.concatenate(column)]
        return Results(*(column[0] for column in self._columns))
