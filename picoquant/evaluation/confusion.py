"""Confusion matrix: the classes of detections above a score against those of the annotated objects.

`C` is the number of classes. Boxes are COCO's `[x, y, width, height]` in image pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.evaluation.results import Results

FALSE, IGNORED = -1, -2


@dataclass(frozen=True)
class Matched:
    """Detections of one image, best score first, with the objects that they match.

    Attributes:
        found: detections, entries of a COCO results file.
        objects: annotated objects, entries of a COCO annotation file, without crowd regions.
        owner: for each detection, the index of its object in `objects`; `FALSE` if it has none, `IGNORED` if
            it is inside a crowd region.
    """

    found: tuple[Mapping[str, Any], ...]
    objects: tuple[Mapping[str, Any], ...]
    owner: tuple[int, ...]

    def right(self, index: int) -> bool:
        """Whether detection `index` matches an object of its own class."""
        owner = self.owner[index]
        return owner >= 0 and self.objects[owner]["category_id"] == self.found[index]["category_id"]

    @property
    def missed(self) -> list[Mapping[str, Any]]:
        """The objects without a detection."""
        return [entry for number, entry in enumerate(self.objects) if number not in self.owner]


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix over images.

    Attributes:
        classes: class names, in the order of the annotations' category ids.
        counts: `[C + 1, C + 1]`; rows: the annotated class, last "no object"; columns: the detected class,
            last "no detection".
        score: smallest score of a detection that is counted; iou: smallest IoU of a detection with its
            object.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    score: float
    iou: float

    @property
    def right(self) -> int:
        """Number of objects detected with their own class."""
        return int(np.trace(self.counts))

    @property
    def missed(self) -> int:
        """Number of objects without a detection."""
        return int(self.counts[:-1, -1].sum())

    @property
    def false(self) -> int:
        """Number of detections without an object."""
        return int(self.counts[-1, :-1].sum())

    @property
    def mistaken(self) -> int:
        """Number of objects detected with another class."""
        return int(self.counts[:-1, :-1].sum()) - self.right


def match(
    found: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    score: float,
    iou: float,
) -> Matched:
    """Match the detections of an image with its objects, at most one object per detection and the reverse.

    Detections are first matched with objects of their own class, best score first, as COCO does; then the
    unmatched detections and objects are matched across classes: these are the confusions.

    Args:
        found: detections of the image.
        objects: annotations of the image; a crowd region (`iscrowd`) matches any number of detections.
        score: detections with a smaller score are left out.
        iou: the smallest IoU at which a detection matches an object.
    """
    from pycocotools import mask

    kept = sorted((entry for entry in found if entry["score"] >= score), key=lambda entry: -entry["score"])
    single = [entry for entry in objects if not entry.get("iscrowd")]
    crowds = [entry for entry in objects if entry.get("iscrowd")]
    owner = [FALSE] * len(kept)
    if kept and single:
        overlap = mask.iou(_boxes(kept), _boxes(single), [0] * len(single))
        same = np.equal.outer(_classes(kept), _classes(single))
        free = np.ones(len(single), bool)
        for allowed in (same, np.ones_like(same)):
            for index, row in enumerate(np.where(allowed, overlap, 0.0)):
                best = int(np.argmax(np.where(free, row, 0.0)))
                if owner[index] == FALSE and free[best] and row[best] >= iou:
                    owner[index], free[best] = best, False
    if kept and crowds:
        inside = mask.iou(_boxes(kept), _boxes(crowds), [1] * len(crowds)).max(axis=1) >= iou
        owner = [IGNORED if own == FALSE and hit else own for own, hit in zip(owner, inside)]
    return Matched(tuple(kept), tuple(single), tuple(owner))


def match_images(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int],
    score: float,
    iou: float,
) -> dict[int, Matched]:
    """`match` for each image of `image_ids`.

    Args:
        ground_truth: content of a COCO annotation file.
        results: entries of a COCO results file.
        image_ids: images to match.
        score, iou: as in `match`.

    Returns: the matches by image id, ascending.
    """
    some = (
        results.least(score) if isinstance(results, Results) else results
    )  # the others never become mappings
    objects, found = _by_image(ground_truth.get("annotations", [])), _by_image(some)
    return {number: match(found[number], objects[number], score, iou) for number in sorted(set(image_ids))}


def confusion(
    ground_truth: Mapping[str, Any], images: Iterable[Matched], score: float, iou: float
) -> Confusion:
    """The confusion matrix of the matches of `match_images` with the same `score` and `iou`."""
    categories = sorted(ground_truth["categories"], key=lambda entry: entry["id"])
    index_of = {entry["id"]: index for index, entry in enumerate(categories)}
    nothing = len(categories)
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    for image in images:
        for entry, owner in zip(image.found, image.owner):
            if owner != IGNORED:
                row = nothing if owner == FALSE else index_of[image.objects[owner]["category_id"]]
                counts[row, index_of[entry["category_id"]]] += 1
        for entry in image.missed:
            counts[index_of[entry["category_id"]], nothing] += 1
    return Confusion(tuple(str(entry["name"]) for entry in categories), counts, score, iou)


def _by_image(entries: Iterable[Mapping[str, Any]]) -> defaultdict[int, list]:
    images = defaultdict(list)
    for entry in entries:
        images[entry["image_id"]].append(entry)
    return images


def _boxes(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)


def _classes(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([entry["category_id"] for entry in entries])
