"""SimOTA, YOLOX's assignment: each object is assigned its k points of the least cost.

k is the sum of the object's greatest IoUs with predicted boxes, rounded down, at least 1. Source:
https://arxiv.org/abs/2107.08430, with PaddleDetection's varifocal cost. Computed in NumPy, because the
number of candidates differs from image to image. `L` anchor points, `M` of them candidates, `G` objects of
one image, `C` classes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import Tensor

from picoquant.detector.anchors import Grid
from picoquant.detector.assigners.matching import HardAssignment

_OUTSIDE = 1e8  # cost of a point that is not both inside an object and near its centre
_LOG_FLOOR = -100.0  # where paddle's cross-entropy clips logarithms
_EPS = 1e-6  # lower bound of union and hull, square pixels


class ImageAssignment(NamedTuple):
    """The targets of each point of one image.

    Attributes:
        labels: (L,) int64, class; C for background.
        boxes: (L, 4) float32, input pixels; 0 for background.
        positives: what the image adds to the class loss's divisor.
    """

    labels: np.ndarray
    boxes: np.ndarray
    positives: int


def assign_simota(
    grid: Grid,
    scores: Tensor,
    boxes: Tensor,
    gt_bbox: Tensor,
    gt_class: Tensor,
    pad_gt_mask: Tensor,
    **options: Any,
) -> HardAssignment:
    """Assign the points of each image to its objects; padding is removed from these first.

    Args:
        grid: the anchor points.
        scores: (N, L, C) probabilities; boxes: (N, L, 4), predicted, input pixels.
        gt_bbox: (N, G, 4), input pixels; gt_class: (N, G, 1); pad_gt_mask: (N, G, 1). G may be 0.
        options: passed to `assign_image`.
    """
    arrays = (tensor.numpy() for tensor in (scores, boxes, gt_bbox, gt_class, pad_gt_mask))
    found = []
    for score, box, objects, classes, mask in zip(*arrays):
        real = mask.ravel() > 0
        classes = classes.ravel()[real].astype(np.int64)
        found.append(assign_image(grid.points, grid.strides, score, box, objects[real], classes, **options))
    return HardAssignment(
        labels=paddle.to_tensor(np.stack([image.labels for image in found])),
        boxes=paddle.to_tensor(np.stack([image.boxes for image in found])),
        positives=float(sum(image.positives for image in found)),
    )


def assign_image(
    points: np.ndarray,
    strides: np.ndarray,
    scores: np.ndarray,
    boxes: np.ndarray,
    gt_bbox: np.ndarray,
    gt_class: np.ndarray,
    center_radius: float = 2.5,
    candidate_topk: int = 10,
    iou_weight: float = 3.0,
    cls_weight: float = 1.0,
    use_vfl: bool = True,
) -> ImageAssignment:
    """Assign the points of one image to its objects.

    Args:
        points: (L, 2), input pixels; strides: (L, 1).
        scores: (L, C) probabilities; boxes: (L, 4), predicted, input pixels.
        gt_bbox: (G, 4), input pixels; gt_class: (G,). G may be 0; no padding.
        center_radius: a point is near an object where it is closer than this to the object's centre in x
            and in y, in strides.
        candidate_topk: how many of an object's greatest IoUs are summed to get the number of its points.
        iou_weight, cls_weight: weights of the two parts of the cost.
        use_vfl: class cost by varifocal loss; else by cross-entropy.
    """
    labels = np.full(len(points), scores.shape[1], np.int64)
    targets = np.zeros((len(points), 4), np.float32)
    if len(gt_bbox) == 0:
        return ImageAssignment(labels, targets, 0)
    inside = _within(points, gt_bbox)
    middle = (gt_bbox[:, :2] + gt_bbox[:, 2:]) / 2
    reach = center_radius * strides[:, None]  # (L, 1, 1)
    near = (np.abs(points[:, None] - middle) < reach).all(axis=-1)
    candidates = np.flatnonzero((inside | near).any(axis=1))
    if len(candidates) == 0:
        return ImageAssignment(labels, targets, 1)
    iou, giou = _overlaps(boxes[candidates], gt_bbox)
    cost = _class_cost(scores[candidates], gt_class, iou, use_vfl) * cls_weight
    cost += iou_weight * (1 - giou if use_vfl else -np.log(iou + 1e-7))
    cost += _OUTSIDE * ~(inside & near)[candidates]
    match = _cheapest(cost, iou, candidate_topk)
    chosen = match.any(axis=1)
    objects = match[chosen].argmax(axis=1)
    labels[candidates[chosen]] = gt_class[objects]
    targets[candidates[chosen]] = gt_bbox[objects]
    return ImageAssignment(labels, targets, max(int(chosen.sum()), 1))


def _within(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(L, G) bool: points strictly inside boxes."""
    point = points[:, None]
    return ((point > boxes[:, :2]) & (point < boxes[:, 2:])).all(axis=-1)


def _area(sides: np.ndarray) -> np.ndarray:
    return sides[..., 0] * sides[..., 1]


def _overlaps(boxes: np.ndarray, gt_bbox: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU and GIoU, (M, G) each, of boxes (M, 4) and objects (G, 4)."""
    boxes, gt_bbox = boxes[:, None].astype(np.float64), gt_bbox.astype(np.float64)
    low = np.maximum(boxes[..., :2], gt_bbox[:, :2])
    high = np.minimum(boxes[..., 2:], gt_bbox[:, 2:])
    overlap = _area((high - low).clip(0))
    areas = _area(boxes[..., 2:] - boxes[..., :2]) + _area(gt_bbox[:, 2:] - gt_bbox[:, :2])
    union = np.maximum(areas - overlap, _EPS)
    iou = overlap / union
    low = np.minimum(boxes[..., :2], gt_bbox[:, :2])
    high = np.maximum(boxes[..., 2:], gt_bbox[:, 2:])
    hull = np.maximum(_area((high - low).clip(0)), _EPS)
    return iou, iou - (hull - union) / hull


def _class_cost(scores: np.ndarray, gt_class: np.ndarray, iou: np.ndarray, use_vfl: bool) -> np.ndarray:
    """(M, G): each candidate's class loss, summed over all classes, if it were assigned to each object.

    The losses of all classes as background are summed once per candidate; then the term of the object's
    class is replaced.
    """
    scores = scores.astype(np.float64)
    with np.errstate(divide="ignore"):
        yes = np.maximum(np.log(scores), _LOG_FLOOR)
        no = np.maximum(np.log1p(-scores), _LOG_FLOOR)
    if use_vfl:
        background = -0.75 * scores**2 * no
        entropy = -(iou * yes[:, gt_class] + (1 - iou) * no[:, gt_class])
        own = np.where(iou > 0, iou * entropy, background[:, gt_class])
    else:
        background, own = -no, -yes[:, gt_class]
    return background.sum(axis=1, keepdims=True) - background[:, gt_class] + own


def _cheapest(cost: np.ndarray, iou: np.ndarray, candidate_topk: int) -> np.ndarray:
    """(M, G) bool: the candidates of the least cost of each object.

    A candidate chosen by several objects keeps only the one of the least cost.
    """
    best = -np.sort(-iou, axis=0)[:candidate_topk]
    counts = best.sum(axis=0).astype(int).clip(1)
    match = np.zeros(cost.shape, bool)
    order = cost.argsort(axis=0, kind="stable")
    for gt, count in enumerate(counts):
        match[order[:count, gt], gt] = True
    several = np.flatnonzero(match.sum(axis=1) > 1)
    match[several] = False
    match[several, cost[several].argmin(axis=1)] = True
    return match
