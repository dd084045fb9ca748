"""Fidelity: how well a model finds again what another one detects, which needs no labels.

The reference's detections of at least a score stand in for annotated objects; fidelity is the mAP of the other
model's detections against them. It moves far less by chance than mAP does: that depends on objects that neither
model finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.errors import DataError
from picoquant.evaluation.coco_metrics import coco_metrics
from picoquant.evaluation.paired import bootstrapped
from picoquant.evaluation.results import Results

SCORE = 0.3  # of the reference's detections that count


@dataclass(frozen=True)
class Fidelity:
    """The mAP of a model's detections against a reference's.

    Attributes:
        value: on the images themselves, 0 to 1; 1: all of the reference's detections, and before any others.
        low, high: its 95 % confidence interval, a bootstrap over images.
        detections: of the reference, that count.
        images: that have any.
        reference: name of the reference.
    """

    value: float
    low: float
    high: float
    detections: int
    images: int
    reference: str

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "value": self.value,
            "interval_95": [self.low, self.high],
            "detections": self.detections,
            "images": self.images,
            "reference": self.reference,
            "score": SCORE,
        }

    def to_text(self) -> str:
        """One line."""
        return (
            f"fidelity {self.value:.4f}, 95 % interval {self.low:.4f} to {self.high:.4f}: mAP against the "
            f"{self.detections} detections of {self.reference} with a score of {SCORE:g} or more, on {self.images} "
            "images"
        )


def fidelity(
    frame: Mapping[str, Any],
    reference: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int],
    name: str = "FP32",
) -> Fidelity:
    """Compare a model's detections with a reference's.

    Args:
        frame: a COCO mapping whose `images` and `categories` are taken; its annotations are not.
        reference, detections: entries of COCO results files.
        image_ids: images to evaluate.
        name: of the reference.

    Raises: `DataError` when the reference detects nothing with `SCORE`.
    """
    truth = detections_as_objects(frame, reference)
    if not truth["annotations"]:
        raise DataError(
            f"{name} detects nothing with a score of {SCORE:g} or more on these images: there is nothing to compare"
        )
    value, low, high = bootstrapped(truth, detections, image_ids)
    images = {entry["image_id"] for entry in truth["annotations"]}
    return Fidelity(value, low, high, len(truth["annotations"]), len(images), name)


def agreement(
    expected: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], image_ids: Iterable[int]
) -> float | None:
    """The value of `fidelity`, without its interval, which takes many times as long; None without a detection.

    Args:
        expected: `detections_as_objects` of the reference.
        detections: entries of a COCO results file.
        image_ids: images to evaluate.
    """
    return coco_metrics(expected, detections, image_ids)[0]["mAP"] if expected["annotations"] else None


def detections_as_objects(
    frame: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], score: float = SCORE
) -> dict[str, Any]:
    """Detections of at least a score as the annotations of a COCO mapping.

    Args:
        frame: gives `images` and `categories`.
        detections: entries of a COCO results file.
        score: 0 to 1.
    """
    some = detections.least(score) if isinstance(detections, Results) else detections
    kept = [entry for entry in some if entry["score"] >= score]
    annotations = [
        {
            "id": number,
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": list(entry["bbox"]),
            "area": entry["bbox"][2] * entry["bbox"][3],
            "iscrowd": 0,
        }
        for number, entry in enumerate(kept, start=1)
    ]
    return {"images": frame["images"], "categories": frame["categories"], "annotations": annotations}
