"""COCO's twelve metrics of detections, as pycocotools computes them.

They are counted over columns (`counting/`), so that time and memory grow as the number of detections does and no
faster; tests compare each metric with pycocotools' and, to the last bit, with faster-coco-eval's.

COCO boxes are `[x, y, width, height]` in image pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from picoquant.evaluation.counting.curves import MOST, Curves, curves
from picoquant.evaluation.counting.images import match_images
from picoquant.evaluation.counting.matching import IOUS
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.results import Results
from picoquant.postprocess import Detections

# In the order of `COCOeval.stats`.
METRICS = (
    "mAP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)


def coco_results(
    image_id: int, detections: Detections, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """The detections of one image as entries of a COCO results file, but those of classes without category id.

    Args:
        image_id: the image's id in the annotations.
        detections: class indices, scores, boxes `[x1, y1, x2, y2]` in image pixels.
        category_ids: the annotations' category id of each class index.

    Returns: one entry per detection, with `bbox` as `[x, y, width, height]`.
    """
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {"image_id": int(image_id), "category_id": category_ids[label], "bbox": box, "score": score}
        for label, score, box in zip(detections.classes.tolist(), detections.scores.tolist(), boxes.tolist())
        if category_ids[label] is not None
    ]


def coco_metrics(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int] | None = None,
) -> tuple[dict[str, float], dict[str, float | None]]:
    """COCO's metrics of `results`.

    Args:
        ground_truth: content of a COCO annotation file; `area` and `iscrowd` may be absent.
        results: entries of a COCO results file; may be empty.
        image_ids: images to evaluate; all annotated ones by default.

    Returns: the `METRICS` by name, 0 to 1, or -1, as in pycocotools, if there is no such object (APs without
        small objects); and the AP of each class by name, None for a class without objects.
    """
    names = {entry["id"]: entry["name"] for entry in ground_truth["categories"]}
    if image_ids is None:
        image_ids = [entry["id"] for entry in ground_truth["images"]]
    return metrics_of(Objects.of(ground_truth.get("annotations", [])), names, results, image_ids)


def metrics_of(
    objects: Objects, names: Mapping[int, str], results: Sequence[Mapping[str, Any]], image_ids: Iterable[int]
) -> tuple[dict[str, float], dict[str, float | None]]:
    """As `coco_metrics`, of objects that are columns.

    Args:
        objects: of these images, and maybe others, which are left out.
        names: of the classes by category id.
        results, image_ids: as there.
    """
    numbers = sorted(names)
    found = curves(*match_images(objects, Results.of(results), image_ids, numbers))
    return _summary(found), _per_class([names[number] for number in numbers], found.precision)


def _summary(found: Curves) -> dict[str, float]:
    """The `METRICS`, each a mean over the classes that have such objects."""
    precision, recall = found.precision, found.recall
    at = [precision[threshold == IOUS] for threshold in (0.5, 0.75)]
    values = [
        *(one[:, :, :, 0] for one in (precision, *at)),
        *(precision[:, :, :, area] for area in (1, 2, 3)),
        *(recall[:, :, 0, place] for place in range(len(MOST))),
        *(recall[:, :, area, -1] for area in (1, 2, 3)),
    ]
    return dict(zip(METRICS, (_mean(value) for value in values)))


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0


def _per_class(names: Sequence[str], precision: np.ndarray) -> dict[str, float | None]:
    """AP by class name, None for one without objects; `precision` as in `Curves`."""
    values = [precision[:, :, place, 0] for place in range(len(names))]
    return {name: _mean(value) if (value > -1).any() else None for name, value in zip(names, values)}
