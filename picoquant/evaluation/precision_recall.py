"""Precision at each recall, class by class, as pycocotools accumulates it.

`T` IoU thresholds (0.5 to 0.95 in steps of 0.05), `R` recalls (0 to 1 in steps of 0.01), `C` classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.evaluation.coco_metrics import counted_in_any_size


@dataclass(frozen=True)
class PrecisionRecall:
    """What a model's detections are worth at each recall.

    Attributes:
        classes: names, in the order of the annotations' category ids.
        objects: annotated objects of each class, crowd regions not counted.
        ious: `[T]`.
        recalls: `[R]`.
        precision: `[T, R, C]`, 0 to 1: the best one at that recall or a higher one; NaN for a class without objects.
    """

    classes: tuple[str, ...]
    objects: tuple[int, ...]
    ious: np.ndarray
    recalls: np.ndarray
    precision: np.ndarray

    def curve(self, iou: float, index: int | None = None) -> np.ndarray:
        """`[R]`: precision of a class at an IoU threshold; None: the mean over classes with objects."""
        at = self.precision[int(np.argmin(np.abs(self.ious - iou)))]
        if index is not None:
            return at[:, index]
        known = np.asarray(self.objects) > 0
        return at[:, known].mean(axis=1) if known.any() else np.full(len(self.recalls), np.nan)

    def ap(self, iou: float | None = None) -> np.ndarray:
        """`[C]`: AP of each class at an IoU threshold; None: the mean over all of them."""
        at = self.precision if iou is None else self.precision[np.argmin(np.abs(self.ious - iou))][None]
        return at.mean(axis=(0, 1))


def precision_recall(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int],
) -> PrecisionRecall:
    """Count detections of objects of any size.

    Args:
        ground_truth: the content of a COCO annotation file.
        results: entries of a COCO results file; there may be none.
        image_ids: images to count.
    """
    ids = sorted(set(image_ids))
    evaluation = counted_in_any_size(ground_truth, results, ids)
    truth, params = evaluation.cocoGt, evaluation.params
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    counted = set(ids)
    objects = Counter(
        entry["category_id"]
        for entry in truth.dataset["annotations"]
        if entry["image_id"] in counted and not entry["iscrowd"]
    )
    return PrecisionRecall(
        tuple(str(truth.cats[category]["name"]) for category in params.catIds),
        tuple(objects[category] for category in params.catIds),
        np.asarray(params.iouThrs),
        np.asarray(params.recThrs),
        np.where(precision < 0, np.nan, precision),
    )
