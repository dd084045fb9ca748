"""Pascal VOC's mAP at IoU 0.5, by 11 points and by area, as PaddleDetection counts it (`metric: VOC`).

Source of what counts: PaddleDetection, ppdet/metrics/map_utils.py. A pixel is counted at both ends of a box (a side
from 10 to 19 is 10 pixels), an object is found by an IoU above 0.5, and a detection whose nearest object is difficult
counts for nothing. `VOC_integral` is the area under precision over recall as it is, without VOC 2010's envelope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from picoquant.evaluation.results import Results

VOC_METRICS = ("VOC_11point", "VOC_integral")
_FOUND = 0.5  # an IoU above this


def voc_metrics(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], image_ids: Iterable[int]
) -> dict[str, float]:
    """Both means over the classes that have objects.

    Args:
        ground_truth: content of a COCO annotation file; `iscrowd` is VOC's `difficult`.
        results: entries of a COCO results file.
        image_ids: images to evaluate.

    Returns: the `VOC_METRICS` by name, 0 to 1; -1 where no class has an object.
    """
    images = set(image_ids)
    objects = _by_class(ground_truth.get("annotations", []), images)
    found = Results.of(results)
    found = found.at(np.isin(found.image_id, np.array(sorted(images), np.int64)))
    order = np.lexsort((-found.scores, found.category_id))
    places = [
        np.searchsorted(found.category_id, (label, label + 1), sorter=order) for label in sorted(objects)
    ]
    precise = [
        _average_precision(objects[label], found.at(order[slice(*place)]))
        for label, place in zip(sorted(objects), places)
    ]
    counted = [values for values in precise if values is not None]
    if not counted:
        return dict.fromkeys(VOC_METRICS, -1.0)
    return dict(zip(VOC_METRICS, np.mean(counted, axis=0).tolist()))


def eleven_points(precision: np.ndarray, recall: np.ndarray) -> float:
    """Mean over the recalls 0, 0.1 … 1 of the best precision at that recall or above; both `[D]`, by falling score."""
    return float(np.mean([precision[recall >= point / 10].max(initial=0.0) for point in range(11)]))


def integral(precision: np.ndarray, recall: np.ndarray) -> float:
    """Sum of precision times the recall that each detection adds; both `[D]`, by falling score."""
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))


def _by_class(entries: Iterable[Mapping[str, Any]], images: set[int]) -> dict[Any, list[Mapping[str, Any]]]:
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in entries:
        if entry["image_id"] in images:
            found.setdefault(entry["category_id"], []).append(entry)
    return found


def _average_precision(objects: Sequence[Mapping[str, Any]], found: Results) -> tuple[float, float] | None:
    """Of one class, by 11 points and by area; None where it has no object that counts. `found` by falling score."""
    there: dict[int, list[Mapping[str, Any]]] = {}
    for entry in objects:
        there.setdefault(entry["image_id"], []).append(entry)
    boxes = {image: _corners(entries) for image, entries in there.items()}
    difficult = {
        image: np.array([bool(entry.get("iscrowd")) for entry in entries]) for image, entries in there.items()
    }
    number = sum(int((~marks).sum()) for marks in difficult.values())
    if not number:
        return None
    taken = {image: np.zeros(len(entries), bool) for image, entries in there.items()}
    right: list[bool] = []
    corners = np.concatenate([found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]], axis=1)
    for image, box in zip(found.image_id.tolist(), corners):
        overlaps = _overlaps(box, boxes[image]) if image in boxes else np.zeros(0)
        nearest = int(np.argmax(overlaps)) if len(overlaps) else -1
        if nearest < 0 or overlaps[nearest] <= _FOUND:
            right.append(False)
        elif not difficult[image][nearest]:
            right.append(not taken[image][nearest])
            taken[image][nearest] = True
    hits = np.cumsum(right, dtype=np.float64)
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / number
    return eleven_points(precision, recall), integral(precision, recall)


def _corners(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """`[G, 4]` x1, y1, x2, y2 of entries with COCO's boxes."""
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of a box `[4]` and others `[G, 4]`, a pixel counted at both ends; 0 where they only touch."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    apart = (high <= low).any(axis=1)
    shared = np.prod(high - low + 1, axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2] + 1, axis=1) + np.prod(box[2:] - box[:2] + 1)
    return np.where(apart, 0.0, shared / (areas - shared))
