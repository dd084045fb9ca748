"""The lines of YOLO's label files: `class x y width height`, with more behind it, or `class x1 y1 x2 y2 x3 y3 …`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from picoquant.data.formats.large.headers import in_threads
from picoquant.errors import DataError, reason_of

_LEAST_POLYGON = 7  # columns: a class and three points
_WITH_CONFIDENCE = 5  # numbers behind the class
_MOST_CLASSES = 1e6
_SHOWN = 60  # characters of a line in a message


class _Row(NamedTuple):
    line: int
    label: int
    numbers: tuple[float, ...]
    polygon: bool


class _Bad(NamedTuple):
    line: int
    text: str


@dataclass(frozen=True)
class Labels:
    """The objects of all label files.

    Attributes:
        owner: [M] int64, the file of each, by its place.
        line: [M] int64, its line there, from 1.
        classes: [M] int64, as written.
        numbers: [M, 4] float64, x y width height (or whatever is written for a box).
        polygon: [M] bool: numbers are x1 y1 x2 y2 around a polygon.
        repeated: how many lines are left out because the same stands above them.
        lines: how many lines there are.
        unsure: places among M of lines with a sixth number that is no confidence.
    """

    owner: np.ndarray
    line: np.ndarray
    classes: np.ndarray
    numbers: np.ndarray
    polygon: np.ndarray
    repeated: int
    lines: int
    unsure: tuple[int, ...]


def read_labels(files: Sequence[str | None], keypoints: int) -> Labels:
    """Read label files; None has no object.

    A line of 5 columns is a box, one of 6 a box with a confidence, one of 7, 9, 11 … a polygon. With key points every
    line is a box with these, or fewer, behind it.

    Args:
        files: paths.
        keypoints: numbers of key points behind each box; 0: none.

    Raises: `DataError` naming the first file and line that is none of these, and how many are so.
    """
    there = [(place, path) for place, path in enumerate(files) if path is not None]
    parsed = in_threads(lambda path: _parse(path, keypoints), [path for _, path in there])
    bad = [
        (path, entry) for (_, path), rows in zip(there, parsed) for entry in rows if isinstance(entry, _Bad)
    ]
    total = sum(map(len, parsed))
    if bad:
        path, first = bad[0]
        behind = (
            f" and up to {keypoints} numbers of key points (kpt_shape)"
            if keypoints
            else ", or a polygon's class x y x y x y …"
        )
        raise DataError(
            f"{path}:{first.line}: {first.text!r} is no line of YOLO's, class x y width height{behind}; "
            f"{len(bad)} of {total} lines are so: correct them"
        )
    found, repeated = [], 0
    for (place, _), rows in zip(there, parsed):
        own = list({(row.label, row.numbers): (place, row) for row in reversed(rows)}.values())[::-1]
        repeated += len(rows) - len(own)
        found += sorted(own, key=lambda item: item[1].line)
    rows = [row for _, row in found]
    return Labels(
        np.array([place for place, _ in found], np.int64),
        np.array([row.line for row in rows], np.int64),
        np.array([row.label for row in rows], np.int64),
        np.array([_four(row) for row in rows], np.float64).reshape(-1, 4),
        np.array([row.polygon for row in rows], bool),
        repeated,
        total,
        tuple(
            place
            for place, row in enumerate(rows)
            if len(row.numbers) == _WITH_CONFIDENCE and not keypoints and not 0 <= row.numbers[-1] <= 1
        ),
    )


def _parse(path: str, keypoints: int) -> list[_Row | _Bad]:
    """Raises: `DataError` when the file cannot be read as text."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            text = stream.read()
    except (OSError, ValueError) as error:
        raise DataError(f"label file {path} cannot be read as text{reason_of(error)}") from error
    rows: list[_Row | _Bad] = []
    for line, content in enumerate(text.split("\n"), start=1):
        words = content.split()
        if not words:
            continue
        try:
            label, *numbers = map(float, words)
        except ValueError:
            label, numbers = math.nan, []
        polygon = not keypoints and len(words) >= _LEAST_POLYGON and len(words) % 2 == 1
        fits = polygon or 5 <= len(words) <= 5 + (keypoints or 1)
        if fits and label.is_integer() and abs(label) < _MOST_CLASSES and all(map(math.isfinite, numbers)):
            rows.append(_Row(line, int(label), tuple(numbers), polygon))
        else:
            rows.append(_Bad(line, content.strip()[:_SHOWN]))
    return rows


def _four(row: _Row) -> tuple[float, ...]:
    if not row.polygon:
        return row.numbers[:4]
    x, y = row.numbers[0::2], row.numbers[1::2]
    return min(x), min(y), max(x), max(y)
