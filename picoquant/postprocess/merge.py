"""Detections of the parts of an image put together: what several parts have seen is one object.

NMS keeps the best of boxes that match; NMM (non-maximum merging, as in SAHI, https://arxiv.org/abs/2202.06934) keeps
the box around all of them, with the best one's score. SAHI merges what is above a threshold of some 0.3. Here
detections down to a score of 0.025 come in, as mAP needs them, so what has less than half of the best one's score is
left out of the box: a weak box around half of the image would make every box that large.

Source of the match and its threshold: PaddleDetection, `slice_infer`.

`M` detections over all parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picoquant.postprocess.detections import Detections

MERGES = ("nms", "nmm")
METRICS = ("ios", "iou")
_JOINS = 0.5  # of the best one's score that a box needs to be within the box around them


@dataclass(frozen=True)
class MergeSettings:
    """How the detections of parts are put together.

    Attributes:
        method: `nms` or `nmm`.
        metric: `ios`: the area that two boxes share over the smaller one's, so that a piece matches the whole; `iou`:
            over that of both together.
        threshold: boxes of one class match from this on.
        keep: at most so many detections of an image, the best.
    """

    method: str = "nms"
    metric: str = "ios"
    threshold: float = 0.6
    keep: int = 300

    def __post_init__(self) -> None:
        if self.method not in MERGES or self.metric not in METRICS:
            raise ValueError(f"{self.method} by {self.metric}: known are {MERGES}, {METRICS}")
        if not 0 < self.threshold <= 1 or self.keep < 1:
            raise ValueError(
                f"threshold {self.threshold} is not above 0 and at most 1, or {self.keep} is below 1"
            )


def merged(parts: Sequence[Detections], settings: MergeSettings) -> Detections:
    """The detections of an image from those of its parts.

    Args:
        parts: of each part, boxes in pixels of the image.
        settings: what matches, and what becomes of it.

    Returns: sorted by class, then by score.
    """
    classes = np.concatenate([np.zeros(0, np.int64), *(part.classes for part in parts)])
    scores = np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)])
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)])
    order = np.argsort(-scores, kind="stable")
    classes, scores, boxes = classes[order], scores[order], boxes[order]
    kept = np.zeros(len(order), bool)
    around = boxes.copy()
    for label in np.unique(classes):
        left = np.flatnonzero(classes == label)
        while len(left):
            best, rest = left[0], left[1:]
            same = _match(boxes[best], boxes[rest], settings.metric) >= settings.threshold
            joins = same & (scores[rest] >= _JOINS * scores[best])
            if settings.method == "nmm" and joins.any():
                group = boxes[[best, *rest[joins]]]
                around[best] = [*group[:, :2].min(axis=0), *group[:, 2:].max(axis=0)]
            kept[best], left = True, rest[~same]
    chosen = np.flatnonzero(kept)[: settings.keep]
    chosen = chosen[np.argsort(classes[chosen], kind="stable")]
    return Detections(classes[chosen], scores[chosen], around[chosen])


def _match(box: np.ndarray, others: np.ndarray, metric: str) -> np.ndarray:
    """How much of a box `[4]` and each of the others `[K, 4]` is shared, 0 to 1: `[K]`."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(np.maximum(others[:, 2:] - others[:, :2], 0), axis=1)
    own = np.prod(np.maximum(box[2:] - box[:2], 0))
    of = np.minimum(areas, own) if metric == "ios" else areas + own - shared
    return np.divide(shared, of, out=np.zeros_like(shared), where=of > 0)
