"""Precision and recall of matched detections, as COCO accumulates them.

Source: pycocotools, `COCOeval.accumulate`. Precision at a recall is the highest one at that or any higher recall, which
is always that of a detection that finds an object: of the others their number is enough.

`A` ranges of areas, `T` IoU thresholds, `R` recalls, `C` classes, `D` detections, `H` of them that overlap an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from picoquant.evaluation.counting.matching import IOUS, MAX_DETECTIONS, Matched, bit

RECALLS = np.linspace(0.0, 1.0, 101)
MOST = (1, 10, MAX_DETECTIONS)  # detections of an image and a class

_ROWS = 1 << 19  # detections that are counted at once, but one class at least


@dataclass(frozen=True)
class Curves:
    """Precision and recall of each class, -1 where it has no object.

    Attributes:
        precision: `[T, R, C, A]` with `MAX_DETECTIONS` of an image and a class.
        recall: `[T, C, A, len(MOST)]`.
    """

    precision: np.ndarray
    recall: np.ndarray


def curves(found: Matched, objects: np.ndarray) -> Curves:
    """The curves of detections.

    Args:
        found: the detections of all images.
        objects: `[C, A]`, how many there are that count.
    """
    classes, areas = objects.shape
    precision = np.full((len(IOUS), len(RECALLS), classes, areas), -1.0)
    recall = np.full((len(IOUS), classes, areas, len(MOST)), -1.0)
    for start, stop, rows in by_score(found, classes):
        group = slice(start, stop)
        some = Ranked(found, rows, found.label[rows].astype(np.int64) - start)
        rank = found.rank[rows[some.at]]
        for area in range(areas):
            there = objects[group, area]
            needed, counted = needed_for(there), some.counted(area)
            for threshold in range(len(IOUS)):
                hit, changes = some.outcome(area, threshold)
                right, changed = some.in_class(hit), some.in_class(changes)
                hits = np.bincount(some.label[hit], minlength=stop - start)
                exact = right[hit] / (counted + changed)[hit]
                precision[threshold, :, group, area] = at_recalls(exact, hits, needed).T
                for place, most in enumerate(MOST):
                    hits = np.bincount(some.label[hit & (rank < most)], minlength=stop - start)
                    recall[threshold, group, area, place] = hits / np.maximum(there, 1)
            precision[:, :, group, area][:, :, there == 0] = -1.0
            recall[:, group, area][:, there == 0] = -1.0
    return Curves(precision, recall)


class Ranked:
    """Detections of some classes, by class and falling score.

    Attributes:
        at: `[H]`, places among them of those that overlap an object.
        label: `[H]`, classes of these.
        begin: `[H]`, where the detections of the class begin.

    Args:
        found: where they come from; rows: `[D]`, their places there.
        label: `[D]`, ascending.
    """

    def __init__(self, found: Matched, rows: np.ndarray, label: np.ndarray) -> None:
        held = np.minimum(np.searchsorted(found.held, rows), max(len(found.held) - 1, 0))
        is_held = found.held[held] == rows if len(found.held) else np.zeros(len(rows), bool)
        self.at = np.flatnonzero(is_held)
        self.label = label[self.at]
        self.begin = np.searchsorted(label, self.label)
        self._found, self._rows, self._held = found, rows, held[self.at]
        self._first = np.searchsorted(self.label, self.label)

    def inside(self, area: int) -> np.ndarray:
        """`[D]` bool, whether they are in a range of areas."""
        return self._found.inside[area, self._rows]

    def counted(self, area: int) -> np.ndarray:
        """`[H]`, how many of `inside` there are in the class up to each of `at`."""
        total = np.concatenate([[0], np.cumsum(self.inside(area))])
        return total[self.at + 1] - total[self.begin]

    def outcome(self, area: int, threshold: int) -> tuple[np.ndarray, np.ndarray]:
        """`[H]` bool, whether an object is found, and `[H]` int8, -1 for what is inside and does not count, 1 for the
        reverse."""
        number = area * len(IOUS) + threshold
        hit, passed = (bit(bits, number)[self._held] for bits in (self._found.hit, self._found.passed))
        inside = self._found.inside[area, self._rows[self.at]]
        return hit, (hit & ~inside).astype(np.int8) - (passed & inside)

    def in_class(self, values: np.ndarray) -> np.ndarray:
        """Sums of `values` `[H]` up to each one, anew in each class."""
        total = np.concatenate([[0], np.cumsum(values)])
        return total[1:] - total[self._first]


def by_score(found: Matched, classes: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """Some classes at a time, from one up to another: places of their detections, by class and falling score.

    Of equal scores the earlier image comes first, and in an image what stands first.
    """
    order = np.argsort(found.label, kind="stable")  # by counting, as labels are small
    ends = np.cumsum(np.bincount(found.label, minlength=classes))
    start, begin = 0, 0
    while start < classes:
        stop = max(start + 1, int(np.searchsorted(ends, begin + _ROWS, side="right")))
        rows = order[begin : ends[stop - 1]]
        bounds = [0, *(ends[start:stop] - begin).tolist()]
        scores = -found.scores[rows]
        for low, high in zip(bounds, bounds[1:]):
            rows[low:high] = rows[low:high][np.argsort(scores[low:high], kind="stable")]
        yield start, stop, rows
        start, begin = stop, int(ends[stop - 1])


def needed_for(objects: np.ndarray) -> np.ndarray:
    """`[C, R]`, the smallest number of objects found, 1 or more, whose share of `objects` is the recall at least."""
    total = np.maximum(objects, 1)[:, None]
    number = np.maximum(np.floor(RECALLS * total).astype(np.int64) - 1, 1)
    for _ in range(3):
        number += number / total < RECALLS
    return number


def at_recalls(precision: np.ndarray, hits: np.ndarray, needed: np.ndarray) -> np.ndarray:
    """The best precision at each recall or above, `[C, R]`; 0 where that is not reached.

    Args:
        precision: of each hit, by class and falling score.
        hits: `[C]`, how many each class has.
        needed: `[C, R]`, how many a recall takes.
    """
    begin = (np.cumsum(hits) - hits)[:, None]
    places = begin + np.minimum(needed - 1, hits[:, None])
    # From a recall's hit to the next recall's, from the last one's to the end of the class; where none is between,
    # that hit alone.
    best = np.maximum.reduceat(np.append(precision, 0.0), places.ravel()).reshape(places.shape)
    best = np.where(needed <= hits[:, None], best, 0.0)
    return np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
