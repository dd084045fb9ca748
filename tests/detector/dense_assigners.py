"""ATSS and task-aligned assignment in their plainest form: every object of an image beside every point, one by one.

`L` points, `G` objects of one image, without padding. Returned are (L,): the object of each point or -1, and its target
score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(G, L) of boxes (G, 4) and (L, 4)."""
    boxes, others = boxes[:, None].astype(np.float64), others[None].astype(np.float64)
    low, high = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(np.clip(one[..., 2:] - one[..., :2], 0, None), axis=-1) for one in (boxes, others)]
    return both / (areas[0] + areas[1] - both + 1e-9)


def inside(points: np.ndarray, boxes: np.ndarray, margin: float) -> np.ndarray:
    """(G, L)"""
    return ((points - boxes[:, None, :2] > margin) & (boxes[:, None, 2:] - points > margin)).all(axis=-1)


def atss(
    anchors: np.ndarray,
    counts: Sequence[int],
    predicted: np.ndarray,
    boxes: np.ndarray,
    topk: int = 9,
    force_gt_matching: bool = False,
    sm_use: bool = False,
    inclusive: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Of `assign_atss`, for one image."""
    points = (anchors[:, :2] + anchors[:, 2:]) / 2
    overlaps, within = iou(boxes, anchors), inside(points, boxes, 0.01 if inclusive else 1e-9)
    match = np.zeros(overlaps.shape, bool)
    for row, box in enumerate(boxes):
        far = np.linalg.norm(points - (box[:2] + box[2:]) / 2, axis=1)
        starts = np.cumsum([0, *counts[:-1]])
        near = np.concatenate(
            [start + np.argsort(far[start : start + count])[:topk] for start, count in zip(starts, counts)]
        )
        among = overlaps[row, near]
        threshold = among.mean() + among.std(ddof=0 if inclusive else 1)
        enough = among >= threshold if inclusive else among > threshold
        match[row, near] = enough & within[row, near]
    owner = _owners(match, overlaps * match if sm_use else overlaps)
    if force_gt_matching:
        best = overlaps.argmax(axis=1)
        for row, point in enumerate(best):
            if (best == point).sum() == 1:
                owner[point] = row
    return owner, np.where(owner < 0, 0, iou(boxes, predicted)[owner, np.arange(len(owner))])


def task_aligned(
    points: np.ndarray,
    scores: np.ndarray,
    predicted: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    topk: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Of `assign_task_aligned`, for one image."""
    overlaps, within = iou(boxes, predicted), inside(points, boxes, 1e-9)
    measure = scores[:, classes].T.astype(np.float64) ** alpha * overlaps**beta
    match = np.zeros(overlaps.shape, bool)
    for row in range(len(boxes)):
        match[row, np.argsort(-measure[row] * within[row])[:topk]] = True
    owner = _owners(match & within, overlaps)
    quality = np.zeros(len(points))
    for row in range(len(boxes)):
        own = owner == row
        if own.any():
            greatest = measure[row, own].max()
            quality[own] = measure[row, own] / (greatest + 1e-9) * overlaps[row, own].max()
    return owner, quality


def _owners(match: np.ndarray, overlaps: np.ndarray) -> np.ndarray:
    claims = match.sum(axis=0)
    return np.where(claims > 1, overlaps.argmax(axis=0), np.where(claims == 1, match.argmax(axis=0), -1))


def every_image(
    assign: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]],
    classes: np.ndarray,
    mask: np.ndarray,
    num_classes: int,
    count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, which object, target scores, (N, L) each.

    Args:
        assign: of an image's number and which of its (G,) objects are none of padding.
        classes, mask: (N, G, 1).
        num_classes: C.
        count: L.
    """
    labels, objects, quality = [], [], []
    for image, (label, real) in enumerate(zip(classes[..., 0], mask[..., 0] > 0)):
        where = np.flatnonzero(real)
        owner, reached = assign(image, where) if len(where) else (np.full(count, -1), np.zeros(count))
        owner = np.where(owner < 0, -1, where[owner] if len(where) else -1)
        labels.append(np.where(owner < 0, num_classes, label[owner]))
        objects.append(owner)
        quality.append(reached)
    return np.stack(labels), np.stack(objects), np.stack(quality)
