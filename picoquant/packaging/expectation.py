"""`expected.json`: the detections that a package's program must find again, and how far off it may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np

from picoquant.errors import WeightsError
from picoquant.postprocess import Detections


@dataclass(frozen=True)
class Tolerance:
    """How far a detection may be from the expected one.

    Two right INT8 runtimes round at other places, and PicoDet-S-NPU makes much of a rounding that falls the
    other way. Measured, PicoDet-S-NPU on 40 images of bccd with 352 expected detections: ONNX Runtime stays
    within a score of 0.15 and an IoU of 0.7, the float network within 0.2 and 0.6.

    Attributes:
        min_score: detections that score less need not be found again.
        score: largest difference of two scores.
        iou: smallest overlap of two boxes, 0 to 1.
    """

    min_score: float = 0.5
    score: float = 0.2
    iou: float = 0.6

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in astuple(self)):
            raise ValueError("a tolerance is no finite number")


def as_json(found: Detections, labels: Sequence[str], tolerance: Tolerance, made_by: str) -> dict[str, Any]:
    """The content of `expected.json`.

    Args:
        found: all detections, low scores too: they may be the partners of higher ones.
        labels: class names.
        made_by: which model, by what.
    """
    rows = zip(found.classes.tolist(), found.scores.tolist(), found.boxes.tolist())
    return {
        "made_by": made_by,
        "tolerance": asdict(tolerance),
        "detections": [
            {
                "class": label,
                "label": labels[label] if 0 <= label < len(labels) else "",
                "score": round(score, 6),
                "box": [round(side, 4) for side in box],
            }
            for label, score, box in rows
        ],
    }


def from_json(values: Any, where: str) -> tuple[Detections, Tolerance]:
    """Read it back.

    Raises: `WeightsError` naming the file when it holds something else.
    """
    try:
        rows = values["detections"]
        found = Detections(
            np.array([row["class"] for row in rows], np.int64),
            np.array([row["score"] for row in rows], np.float32),
            np.array([row["box"] for row in rows], np.float32).reshape(-1, 4),
        )
        if found.classes.shape != found.scores.shape or len(found.classes) != len(found.boxes):
            raise ValueError("classes, scores and boxes are not equally many")
        return found, Tolerance(**values["tolerance"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{where} holds no expected detections: package the model again") from error


def differences(
    expected: Detections, found: Detections, tolerance: Tolerance, labels: Sequence[str]
) -> list[str]:
    """What is not as expected, a line each; empty when all is.

    Each detection of at least `min_score` on one side needs a partner of its class on the other side, of
    whatever score that does not differ too much. A partner is taken once.
    """
    lost = _without_partner(expected, found, tolerance)
    new = _without_partner(found, expected, tolerance)
    return [f"not found: {_described(expected, index, labels)}" for index in lost] + [
        f"not expected: {_described(found, index, labels)}" for index in new
    ]


def _without_partner(these: Detections, those: Detections, tolerance: Tolerance) -> list[int]:
    free = np.ones(len(those), bool)
    alone = []
    for index in range(len(these)):
        if these.scores[index] < np.float32(tolerance.min_score):
            continue
        fits = free & (those.classes == these.classes[index])
        fits &= np.abs(those.scores - these.scores[index]) <= np.float32(tolerance.score)
        overlaps = np.where(fits, _iou(these.boxes[index], those.boxes), np.float32(-1))
        if len(overlaps) and overlaps.max() >= np.float32(tolerance.iou):
            free[len(overlaps) - 1 - int(overlaps[::-1].argmax())] = False
        else:
            alone.append(index)
    return alone


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """`[4]` with `[M, 4]` -> `[M]`."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(0).prod(axis=1)
    area = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(axis=1)
    return shared / np.maximum(area - shared, np.float32(1e-9))


def _described(found: Detections, index: int, labels: Sequence[str]) -> str:
    label = int(found.classes[index])
    name = labels[label] if 0 <= label < len(labels) else f"class {label}"
    box = ", ".join(f"{side:.1f}" for side in found.boxes[index])
    return f"{name} {found.scores[index]:.3f} at {box}"
