"""Which class was taken for which: detections above a score against the annotated objects.

`D` detections and `G` objects of an image, `C` classes. Boxes are COCO's `[x, y, width, height]`, image pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FALSE, IGNORED = -1, -2


@dataclass(frozen=True)
class Matched:
    """Detections of one image, best score first, with the objects they belong to.

    Attributes:
        found: entries of a COCO results file.
        objects: entries of an annotation file, crowd regions left out.
        owner: of each detection the number of its object in `objects`, `FALSE` for none, `IGNORED` for a
            detection in a crowd region.
    """

    found: tuple[Mapping[str, Any], ...]
    objects: tuple[Mapping[str, Any], ...]
    owner: tuple[int, ...]

    def right(self, index: int) -> bool:
        """Whether a detection has an object, of its own class."""
        owner = self.owner[index]
        return owner >= 0 and self.objects[owner]["category_id"] == self.found[index]["category_id"]

    @property
    def missed(self) -> list[Mapping[str, Any]]:
        """Objects without a detection."""
        return [entry for number, entry in enumerate(self.objects) if number not in self.owner]


@dataclass(frozen=True)
class Confusion:
    """Counts over images.

    Attributes:
        classes: names, in the order of the annotations' category ids.
        counts: `[C + 1, C + 1]`; row: the class annotated, the last: nothing is there; column: the class found,
            the last: nothing was found.
        score: least score of a detection that counts; iou: least overlap of a detection with its object.
    """

    classes: tuple[str, ...]
    counts: np.ndarray
    score: float
    iou: float

    @property
    def right(self) -> int:
        """Objects found as what they are."""
        return int(np.trace(self.counts))

    @property
    def missed(self) -> int:
        """Objects that were not found."""
        return int(self.counts[:-1, -1].sum())

    @property
    def false(self) -> int:
        """Detections where nothing is."""
        return int(self.counts[-1, :-1].sum())

    @property
    def mistaken(self) -> int:
        """Objects found as something else."""
        return int(self.counts[:-1, :-1].sum()) - self.right


def match(
    found: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    score: float,
    iou: float,
) -> Matched:
    """Give each detection of an image at most one object, and each object at most one detection.

    First within the class, best score first, as COCO counts hits; then what is left over, whatever the class:
    these are mistaken for one another.

    Args:
        found: detections of the image; those under `score` do not count.
        objects: annotations of the image; crowd regions (`iscrowd`) take any number of detections.
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
    """`match` for every image, by image id."""
    objects, found = _by_image(ground_truth.get("annotations", [])), _by_image(results)
    return {number: match(found[number], objects[number], score, iou) for number in sorted(set(image_ids))}


def confusion(
    ground_truth: Mapping[str, Any], images: Iterable[Matched], score: float, iou: float
) -> Confusion:
    """Count what `match_images` found with the same `score` and `iou`."""
    categories = sorted(ground_truth["categories"], key=lambda entry: entry["id"])
    place = {entry["id"]: number for number, entry in enumerate(categories)}
    nothing = len(categories)
    counts = np.zeros((nothing + 1, nothing + 1), np.int64)
    for image in images:
        for entry, owner in zip(image.found, image.owner):
            if owner != IGNORED:
                row = nothing if owner == FALSE else place[image.objects[owner]["category_id"]]
                counts[row, place[entry["category_id"]]] += 1
        for entry in image.missed:
            counts[place[entry["category_id"]], nothing] += 1
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
