"""What COCO's libraries count, for tests that compare with them."""

from __future__ import annotations

import contextlib
import copy
import io

import numpy as np

from picoquant.evaluation.coco_metrics import METRICS


def completed(content):
    """A copy in which each annotation has `area` and `iscrowd`, which pycocotools requires."""
    annotations = [
        {"area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0, **entry}
        for entry in content["annotations"]
    ]
    return copy.deepcopy({**content, "annotations": annotations})


def as_annotations(content, results):
    """Results as annotations, like those of pycocotools' `loadRes`, which fails on an empty list."""
    annotations = [
        {**entry, "id": number, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
        for number, entry in enumerate(results, start=1)
    ]
    return copy.deepcopy({**content, "annotations": annotations})


def indexed(coco, content):
    """A `COCO` object with this content, and with its indices built."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco.dataset = content
        coco.createIndex()
    return coco


def by_faster_coco_eval(truth, results, image_ids=None):
    """`coco_metrics` by faster-coco-eval, and its precision and recall."""
    from faster_coco_eval import COCO, COCOeval_faster

    pair = [indexed(COCO(), content) for content in (completed(truth), as_annotations(truth, results))]
    evaluation = COCOeval_faster(*pair, "bbox")
    if image_ids is not None:
        evaluation.params.imgIds = sorted(set(image_ids))
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    classes = {}
    for place, number in enumerate(sorted(names)):
        values = evaluation.eval["precision"][:, :, place, 0, -1]
        known = values[values > -1]
        classes[names[number]] = float(np.mean(known)) if known.size else None
    metrics = {name: float(value) for name, value in zip(METRICS, evaluation.stats)}
    return (metrics, classes), evaluation.eval["precision"][..., -1], evaluation.eval["recall"]
