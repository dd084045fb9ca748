"""COCO's twelve metrics of detections, as pycocotools computes them.

They are computed by faster-coco-eval, in C++ and in a tenth of the time; tests compare each metric with
pycocotools'.

COCO boxes are `[x, y, width, height]` in image pixels.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from picoquant.postprocess import Detections

MAX_DETECTIONS = 100  # per image, as for mAP

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
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        truth = indexed(COCO(), completed(ground_truth))
        detections = indexed(COCO(), as_annotations(ground_truth, results))
        evaluation = COCOeval_faster(truth, detections, "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = sorted(set(image_ids))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = {name: float(value) for name, value in zip(METRICS, evaluation.stats)}
    return metrics, _per_class(truth, evaluation)


def counted_in_any_size(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], image_ids: Sequence[int]
) -> Any:
    """pycocotools' `COCOeval` over objects of any size, evaluated and accumulated.

    `evalImgs` then holds the matches of each class and image, `eval` the precision and recall.

    Args:
        ground_truth, results: as in `coco_metrics`.
        image_ids: images to evaluate, ascending; at most `MAX_DETECTIONS` detections of each are counted.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = indexed(COCO(), completed(ground_truth))
        detections = indexed(COCO(), as_annotations(ground_truth, results))
        evaluation = COCOeval(truth, detections, "bbox")
        params = evaluation.params
        params.imgIds, params.maxDets = list(image_ids), [MAX_DETECTIONS]
        params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def indexed(coco: Any, content: Mapping[str, Any]) -> Any:
    """A `COCO` object with this content, and with its indices built. Returns the same object."""
    coco.dataset = content
    coco.createIndex()
    return coco


def completed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which each annotation has `area` and `iscrowd`, which pycocotools requires."""
    annotations = []
    for entry in content.get("annotations", []):
        width, height = entry["bbox"][2:]
        annotations.append({"area": width * height, "iscrowd": 0, **entry})
    return {**content, "annotations": annotations}


def as_annotations(content: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Results as annotations, like those of pycocotools' `loadRes`, which fails on an empty list."""
    annotations = [
        {**entry, "id": number, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
        for number, entry in enumerate(results, start=1)
    ]
    return {
        "images": content["images"],
        "categories": copy.deepcopy(content["categories"]),
        "annotations": annotations,
    }


def _per_class(truth: Any, evaluation: Any) -> dict[str, float | None]:
    # precision: [IoU threshold, recall, class, area range, max detections]; -1 without objects
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    result: dict[str, float | None] = {}
    for index, category in enumerate(evaluation.params.catIds):
        values = precision[:, :, index]
        known = values[values > -1]
        name = truth.cats[category]["name"]
        result[name] = float(known.mean()) if known.size else None
    return result
