"""Whether detections are what non-maximum suppression may keep of a network's boxes, where rounding decides ties.

Scores that are equal but for rounding are suppressed in another order by each implementation, and a box kept first
decides over all that it overlaps, so that the lists of two right ones may have little in common. What suppression
keeps is known by two things in any order: no kept box overlaps a better one of its class, and each box that is left out
overlaps a better one that is kept, or is behind the limits.

`C` classes, `L` anchor points, `K` candidates of a class, `M` detections, `F` of them of a class.
"""

from __future__ import annotations

import numpy as np

from picoquant.postprocess import Detections
from picoquant.postprocess.settings import NmsSettings


def wrong_decisions(
    boxes: np.ndarray, scores: np.ndarray, found: Detections, nms: NmsSettings, tolerance: float
) -> tuple[int, int]:
    """Count what suppression with these settings cannot have decided.

    Args:
        boxes: `[L, 4]` of the network, x1 y1 x2 y2.
        scores: `[C, L]` of the network, 0 to 1.
        found: the detections, of such boxes and scores but for rounding.
        nms: the settings.
        tolerance: of a score, and of a coordinate as a part of the largest one.

    Returns: candidates that are missing, and detections that a better one suppresses or that are too many.
    """
    shift = tolerance * max(1.0, float(np.abs(boxes).max(initial=0.0)))
    full = 0 < nms.keep_top_k <= len(found)
    least = float(found.scores.min()) + tolerance if full else -np.inf
    missing, doubled = 0, max(0, len(found) - nms.keep_top_k) if nms.keep_top_k > 0 else 0
    doubled += int((found.scores < nms.score_threshold - tolerance).sum())
    for number in range(len(scores)):
        index = np.flatnonzero(scores[number] > nms.score_threshold + tolerance)
        of_class = scores[number, index]
        kept, kept_scores = (value[found.classes == number] for value in (found.boxes, found.scores))
        overlap, slack = _overlaps(boxes[index], kept, shift)
        better = kept_scores >= of_class[:, None] - tolerance
        explained = (better & (overlap >= nms.nms_threshold - slack)).any(axis=1) | (of_class <= least)
        if 0 < nms.nms_top_k < len(index):
            ranked = np.sort(of_class)
            as_good = len(ranked) - np.searchsorted(ranked, of_class - tolerance)
            explained |= as_good > nms.nms_top_k
        missing += int((~explained).sum())
        overlap, slack = _overlaps(kept, kept, shift)
        doubled += int(np.triu(overlap > nms.nms_threshold + slack, 1).any(axis=0).sum())
    return missing, doubled


def _overlaps(first: np.ndarray, second: np.ndarray, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """IoU of each pair of boxes, and by how much it may change when each coordinate changes by `shift`.

    Args:
        first, second: `[K, 4]` and `[F, 4]`.
        shift: in the boxes' unit.

    Returns: two arrays `[K, F]`.
    """
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides, others = (np.maximum(value[:, 2:] - value[:, :2], 0) for value in (first, second))
    both = np.maximum(high - low, 0).prod(axis=-1)
    union = np.maximum(sides.prod(axis=-1)[:, None] + others.prod(axis=-1) - both, 1e-9)
    return both / union, 2 * shift * (sides.sum(axis=-1)[:, None] + others.sum(axis=-1)) / union
