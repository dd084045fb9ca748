"""AP over objects of any size when an image counts several times, not at all, or alone.

`T` IoU thresholds, `R` recalls, `C` classes, `N` images, `D` detections, `P` pairs of an image and a class
with objects. The small number that COCO adds to each divisor is added here, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picoquant.evaluation.counting.curves import RECALLS, Ranked, at_recalls, by_score, needed_for
from picoquant.evaluation.counting.matching import IOUS, Matched, places_of

_SMALL = np.spacing(1)
_PAIRS = 256  # whose APs are computed at once: some 20 MB


@dataclass(frozen=True)
class ObjectsOfImages:
    """How many objects count, by image and class.

    Attributes:
        image, label: `[P]`, places of image and class, by image; number: `[P]`, 1 or more.
        classes: how many classes there are.
    """

    image: np.ndarray
    label: np.ndarray
    number: np.ndarray
    classes: int


class Weighted:
    """Detections whose images count as often as is said.

    Args:
        found: detections of all images, matched for objects of any size alone.
        objects: of the same images.
    """

    def __init__(self, found: Matched, objects: ObjectsOfImages) -> None:
        self.found, self.objects = found, objects
        rows = np.concatenate(
            [np.zeros(0, np.int64), *(rows for _, _, rows in by_score(found, objects.classes))]
        )
        some = Ranked(found, rows, found.label[rows].astype(np.int64))
        self._some, self._image = some, found.image[rows]
        inside = some.inside(0)
        self._outside = None if inside.all() else ~inside
        outcomes = [some.outcome(0, threshold) for threshold in range(len(IOUS))]
        self._changes = [changes if changes.any() else None for _, changes in outcomes]
        self._hits = [np.flatnonzero(hit) for hit, _ in outcomes]
        labels = np.concatenate(
            [number * objects.classes + some.label[hits] for number, hits in enumerate(self._hits)]
        )
        self._bounds = np.searchsorted(labels, np.arange(len(IOUS) * objects.classes + 1))
        self._segment = labels

    def aps(self, weights: np.ndarray) -> np.ndarray:
        """AP of each class, the mean over all IoU thresholds, `[C]`; NaN without objects. `weights`: `[N]` int64."""
        some, objects = self._some, self.objects
        total = np.zeros(objects.classes, np.int64)
        np.add.at(total, objects.label, objects.number * weights[objects.image])
        weight = weights[self._image]
        mine = weight[some.at]
        if self._outside is not None:
            weight[self._outside] = 0
        up_to = np.concatenate([[0], np.cumsum(weight)])
        up_to = up_to[some.at + 1] - up_to[some.begin]
        counted = [
            (up_to if changes is None else up_to + some.in_class(mine * changes))[hits]
            for hits, changes in zip(self._hits, self._changes)
        ]
        right = np.concatenate([[0], np.cumsum(mine[np.concatenate(self._hits)])])
        before = right[self._bounds]
        precision = (right[1:] - before[self._segment]) / (np.concatenate(counted) + _SMALL)
        # A hit that counts as often as the next recall takes, and those of images that do not count never come first.
        wanted = before[:-1].reshape(len(IOUS), -1, 1) + needed_for(total)
        ends = self._bounds[1:].reshape(len(IOUS), -1, 1)
        places = np.minimum(np.searchsorted(right[1:], wanted), ends)
        best = np.maximum.reduceat(np.append(precision, 0.0), places.ravel()).reshape(places.shape)
        best = np.where(places < ends, best, 0.0)
        best = np.maximum.accumulate(best[:, :, ::-1], axis=2)[:, :, ::-1]
        return np.where(total > 0, _mean(best.transpose(1, 0, 2)), np.nan)

    def aps_alone(self) -> np.ndarray:
        """AP of each image and class with objects, `[P]`, if there were nothing else."""
        found, objects = self.found, self.objects
        pairs = objects.image * objects.classes + objects.label
        bounds = np.searchsorted(found.image, objects.image[::_PAIRS]).tolist()
        values = []
        for start, low, high in zip(range(0, len(pairs), _PAIRS), bounds, [*bounds[1:], len(found.image)]):
            here = pairs[start : start + _PAIRS]
            # Of the last image the next part may have further classes.
            high = int(np.searchsorted(found.image, here[-1] // objects.classes, side="right"))
            rows = np.arange(low, high)
            label, known = places_of(
                found.image[rows].astype(np.int64) * objects.classes + found.label[rows], here
            )
            some = Ranked(found, rows[known], label[known])
            needed, counted = needed_for(objects.number[start : start + _PAIRS]), some.counted(0)
            best = np.empty((len(here), len(IOUS), len(RECALLS)))
            for threshold in range(len(IOUS)):
                hit, changes = some.outcome(0, threshold)
                exact = some.in_class(hit)[hit] / ((counted + some.in_class(changes))[hit] + _SMALL)
                hits = np.bincount(some.label[hit], minlength=len(here))
                best[:, threshold] = at_recalls(exact, hits, needed)
            values.append(_mean(best))
        return np.concatenate([np.zeros(0), *values])


def _mean(best: np.ndarray) -> np.ndarray:
    """`[K]` of `[K, T, R]`."""
    return np.ascontiguousarray(best).reshape(len(best), len(IOUS) * len(RECALLS)).mean(axis=1)
