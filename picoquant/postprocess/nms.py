"""Multi-class non-maximum suppression of one image, equal to Paddle's `multiclass_nms3`.

Paddle suppresses class by class and then keeps the best of all classes. Whether a box is suppressed depends
only on boxes of its class with higher scores. So one pass over the candidates of all classes in the order of
their scores, which ends when `keep_top_k` boxes are kept, keeps the same boxes and compares far fewer pairs.

`C` classes, `L` anchor points, `K` candidates (pairs of class and anchor point), `M` detections.
"""

from __future__ import annotations

import numpy as np

from picoquant.postprocess.detections import Detections
from picoquant.postprocess.settings import NmsSettings

_BLOCK = 128  # candidates compared with each other at once; 64 to 256 are equally quick


def multiclass_nms(boxes: np.ndarray, scores: np.ndarray, settings: NmsSettings) -> Detections:
    """Suppress overlapping boxes of the same class.

    Args:
        boxes: `[L, 4]` float32, x1 y1 x2 y2, image pixels (IoU without the "+ 1" of whole pixels).
        scores: `[C, L]` float32.
        settings: thresholds and limits.

    Returns: the boxes kept, sorted by class, then by score, then by the order of the anchor points.
    """
    classes, index = np.nonzero(scores > settings.score_threshold)
    values = scores[classes, index]
    # Stable: equal scores stay in the order of classes, then anchor points, as in Paddle.
    order = np.argsort(-values, kind="stable")
    classes, index, values = classes[order], index[order], values[order]
    if 0 < settings.nms_top_k < np.bincount(classes, minlength=1).max():
        chosen = _rank_in_class(classes) < settings.nms_top_k
        classes, index, values = classes[chosen], index[chosen], values[chosen]
    kept = _suppress(boxes[index], classes, settings)
    kept = kept[np.argsort(classes[kept], kind="stable")]
    return Detections(classes[kept], values[kept], boxes[index[kept]])


def _rank_in_class(classes: np.ndarray) -> np.ndarray:
    """For each candidate, the number of earlier candidates of its class: `[K]` -> `[K]`."""
    by_class = np.argsort(classes, kind="stable")
    grouped = classes[by_class]
    starts = np.searchsorted(grouped, grouped)
    rank = np.empty(len(classes), np.int64)
    rank[by_class] = np.arange(len(classes)) - starts
    return rank


def _suppress(boxes: np.ndarray, classes: np.ndarray, settings: NmsSettings) -> np.ndarray:
    """Indices `[M]` of the candidates (best first) that no better kept candidate suppresses."""
    limit = len(boxes) if settings.keep_top_k == -1 else settings.keep_top_k
    kept = np.empty(0, np.int64)
    for start in range(0, len(boxes), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        if len(kept):
            covered = _covers(boxes, classes, kept, block, settings.nms_threshold)
            block = block[~covered.any(axis=0)]
        covered = _covers(boxes, classes, block, block, settings.nms_threshold)
        alive = np.ones(len(block), bool)
        for position in range(len(block)):
            if alive[position]:
                alive[position + 1 :] &= ~covered[position, position + 1 :]
        kept = np.concatenate([kept, block[alive]])
        if len(kept) >= limit:
            break
    return kept[:limit]


def _covers(
    boxes: np.ndarray, classes: np.ndarray, better: np.ndarray, worse: np.ndarray, threshold: float
) -> np.ndarray:
    """Which of `better` `[A]` suppress which of `worse` `[B]`: `[A, B]` bool."""
    same = classes[better][:, None] == classes[worse]
    overlap, union = _overlap_and_union(boxes[better], boxes[worse])
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 / 0, two touching boxes without area, suppresses in Paddle; hence "not <=".
        return same & ~(overlap / union <= np.float32(threshold))


def _overlap_and_union(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas of intersection and union of each pair of boxes `[A, 4]` and `[B, 4]`: two `[A, B]` arrays.

    For boxes that do not touch these are 0 and 1, so that they never suppress each other.
    """
    x1, y1, x2, y2 = first.T[:, :, None]
    u1, v1, u2, v2 = second.T
    width = np.minimum(x2, u2) - np.maximum(x1, u1)
    height = np.minimum(y2, v2) - np.maximum(y1, v1)
    apart = (width < 0) | (height < 0)
    overlap = np.where(apart, np.float32(0), width * height)
    union = _area(first)[:, None] + _area(second) - overlap
    return overlap, np.where(apart, np.float32(1), union)


def _area(boxes: np.ndarray) -> np.ndarray:
    size = boxes[:, 2:] - boxes[:, :2]
    return np.where((size < 0).any(axis=1), np.float32(0), size[:, 0] * size[:, 1])
