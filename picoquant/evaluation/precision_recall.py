"""Precision at each recall for each class, as COCO accumulates it.

`T` IoU thresholds (0.5 to 0.95 in steps of 0.05), `R` recalls (0 to 1 in steps of 0.01), `C` classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.evaluation.counting.curves import RECALLS, curves
from picoquant.evaluation.counting.images import match_images
from picoquant.evaluation.counting.matching import AREAS, IOUS
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.results import Results


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision-recall curves of a model.

    Attributes:
        classes: class names, in the order of the annotations' category ids.
        objects: number of annotated objects of each class, without crowd regions.
        ious: `[T]`, IoU thresholds.
        recalls: `[R]`, recalls.
        precision: `[T, R, C]`, 0 to 1: the highest precision at that or any higher recall; NaN for a class
            without objects.
    """

    classes: tuple[str, ...]
    objects: tuple[int, ...]
    ious: np.ndarray
    recalls: np.ndarray
    precision: np.ndarray

    def curve(self, iou: float, index: int | None = None) -> np.ndarray:
        """Precision at each recall, `[R]`, at the IoU threshold nearest to `iou`.

        Args:
            iou: IoU threshold.
            index: index of a class; None for the mean over all classes with objects.
        """
        at = self.precision[int(np.argmin(np.abs(self.ious - iou)))]
        if index is not None:
            return at[:, index]
        known = np.asarray(self.objects) > 0
        return at[:, known].mean(axis=1) if known.any() else np.full(len(self.recalls), np.nan)

    def ap(self, iou: float | None = None) -> np.ndarray:
        """AP of each class, `[C]`, at the IoU threshold nearest to `iou`; None: mean over all thresholds."""
        at = self.precision if iou is None else self.precision[np.argmin(np.abs(self.ious - iou))][None]
        return at.mean(axis=(0, 1))


def precision_recall(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int],
) -> PrecisionRecall:
    """Precision-recall curves over objects of any size.

    Args:
        ground_truth: content of a COCO annotation file.
        results: entries of a COCO results file; may be empty.
        image_ids: images to evaluate.
    """
    names = {entry["id"]: str(entry["name"]) for entry in ground_truth["categories"]}
    numbers = sorted(names)
    objects = Objects.of(ground_truth.get("annotations", []))
    found, counts = match_images(objects, Results.of(results), image_ids, numbers, AREAS[:1])
    precision = curves(found, counts).precision[:, :, :, 0]
    return PrecisionRecall(
        tuple(names[number] for number in numbers),
        tuple(counts[:, 0].tolist()),
        IOUS,
        RECALLS,
        np.where(precision < 0, np.nan, precision),
    )
