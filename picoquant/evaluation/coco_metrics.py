"""COCO's twelve metrics of detections, as pycocotools computes them.

They are computed by faster-coco-eval, in C++ and in a tenth of the time; tests compare each metric with
pycocotools'.

COCO boxes are `[x, y, width, height]` in image pixels.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from picoquant.data.collector import collector_off
from picoquant.evaluation.results import Results
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
    from faster_coco_eval import COCOeval_faster

    names = {entry["id"]: entry["name"] for entry in ground_truth["categories"]}
    counted = COCOeval_faster(None, None, "bbox")
    with collector_off():
        counted.eval = _counted(ground_truth, Results.of(results), image_ids, sorted(names))
    with contextlib.redirect_stdout(io.StringIO()):
        counted.summarize()
    metrics = {name: float(value) for name, value in zip(METRICS, counted.stats)}
    return metrics, _per_class([names[number] for number in sorted(names)], counted.eval["precision"])


def _counted(
    ground_truth: Mapping[str, Any],
    results: Results,
    image_ids: Iterable[int] | None,
    categories: Sequence[int],
) -> dict[str, np.ndarray]:
    """`precision` [IoU threshold, recall, class, area range, max detections] and `recall` [without the second axis]."""
    from faster_coco_eval import COCO, COCOeval_faster

    parts = []
    for truth, found, images in _groups(ground_truth, results, image_ids, categories):
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval_faster(
                indexed(COCO(), truth), indexed(COCO(), as_annotations(truth, found)), "bbox"
            )
            evaluation.params.imgIds = images
            evaluation.evaluate()
            evaluation.accumulate()
        parts.append({key: evaluation.eval[key] for key in _CLASS_AXIS})
    return {key: np.concatenate([one[key] for one in parts], axis=axis) for key, axis in _CLASS_AXIS.items()}


_CLASS_AXIS = {"precision": 2, "recall": 1}
_PAIRS = 1 << 18  # of a class and an image that are counted at once: some 200 MB
_ENTRIES = 1 << 16  # detections that are counted at once, 2 KB each as mappings


def _groups(
    ground_truth: Mapping[str, Any],
    results: Results,
    image_ids: Iterable[int] | None,
    categories: Sequence[int],
) -> Iterator[tuple[dict[str, Any], Results, list[int]]]:
    """Some classes at a time: their content of an annotation file, their detections, and ids of the images for them.

    COCO's counters pair every class with every image that they are given, also where neither has anything. So they
    get the images alone that have an object or a detection of one of a few classes: a class' numbers depend on no
    other image and no other class.

    Args:
        ground_truth, results, image_ids: as of `coco_metrics`.
        categories: ids of the classes, ascending, which is their order in what is yielded.
    """
    listed = {entry["id"]: entry for entry in ground_truth["images"]}
    images = np.array(sorted(set(listed if image_ids is None else image_ids)), np.int64)
    results = results.chosen(np.isin(results.image_id, images))
    results = results.chosen(np.argsort(results.category_id, kind="stable"))
    objects: dict[int, list[dict[str, Any]]] = {}
    here = set(images.tolist())
    for entry in completed(ground_truth)["annotations"]:
        if entry["image_id"] in here:
            objects.setdefault(entry["category_id"], []).append(entry)
    ends = np.searchsorted(results.category_id, categories, side="right")
    counts = np.diff(ends, prepend=np.searchsorted(results.category_id, categories[:1]))
    for group in _parts(categories, counts.tolist(), max(1, _PAIRS // max(len(images), 1))):
        places = np.searchsorted(results.category_id, [group[0], group[-1] + 1]) if group else (0, 0)
        found = results[places[0] : places[1]]
        annotations = [entry for number in group for entry in objects.get(number, ())]
        some = sorted({entry["image_id"] for entry in annotations} | set(found.image_id.tolist()))
        some = some or images[:1].tolist()
        truth = {
            "images": [listed[number] for number in some if number in listed],
            "categories": [entry for entry in ground_truth["categories"] if entry["id"] in group],
            "annotations": annotations,
        }
        yield truth, found, some


def _parts(categories: Sequence[int], counts: Sequence[int], most: int) -> Iterator[list[int]]:
    """The classes in their order, so many at a time that `_ENTRIES` and `most` hold, but one at least."""
    part: list[int] = []
    held = 0
    for number, count in zip(categories, counts):
        if part and (len(part) == most or held + count > _ENTRIES):
            yield part
            part, held = [], 0
        part.append(number)
        held += count
    yield part


def counted_in_any_size(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], image_ids: Sequence[int]
) -> Iterator[Any]:
    """pycocotools' `COCOeval` over objects of any size, evaluated and accumulated, of some classes after the other.

    `evalImgs` then holds the matches of each class of `params.catIds` and image of `params.imgIds` (those that have
    something of these classes), `eval` the precision and recall. All classes come, by ascending id.

    Args:
        ground_truth, results: as in `coco_metrics`.
        image_ids: images to evaluate, ascending; at most `MAX_DETECTIONS` detections of each are counted.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    categories = sorted({entry["id"] for entry in ground_truth["categories"]})
    for truth, found, images in _groups(ground_truth, Results.of(results), image_ids, categories):
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(
                indexed(COCO(), truth), indexed(COCO(), as_annotations(truth, found)), "bbox"
            )
            params = evaluation.params
            params.imgIds, params.maxDets = images, [MAX_DETECTIONS]
            params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
            evaluation.evaluate()
            evaluation.accumulate()
        yield evaluation


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


def _per_class(names: Sequence[str], precision: np.ndarray) -> dict[str, float | None]:
    """AP by class name; `precision` as of `_counted`, -1 without objects."""
    result: dict[str, float | None] = {}
    for index, name in enumerate(names):
        values = precision[:, :, index, 0, -1]
        known = values[values > -1]
        result[name] = float(known.mean()) if known.size else None
    return result
