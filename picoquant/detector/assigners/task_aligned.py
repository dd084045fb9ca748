"""Task-aligned assignment, https://arxiv.org/abs/2108.07755.

For each object, the points inside it whose predictions have the best product of score and overlap are
assigned to it. Letters of dimensions as in `matching`.
"""

from __future__ import annotations

import paddle
from paddle import Tensor

from picoquant.detector.assigners.matching import (
    Assignment,
    background,
    one_object_a_point,
    targets,
    top_candidates,
)
from picoquant.detector.boxes import pairwise_iou, points_inside


@paddle.no_grad()
def assign_task_aligned(
    points: Tensor,
    predicted_scores: Tensor,
    predicted_boxes: Tensor,
    gt_bbox: Tensor,
    gt_class: Tensor,
    pad_gt_mask: Tensor,
    topk: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
    eps: float = 1e-9,
) -> Assignment:
    """Assign points to objects by the alignment measure score ** alpha * IoU ** beta.

    A point's target score is its measure, scaled so that the greatest target score of an object equals the
    greatest IoU of its points.

    Args:
        points: (L, 2), input pixels.
        predicted_scores: (N, L, C) probabilities; predicted_boxes: (N, L, 4), input pixels.
        gt_bbox: (N, G, 4), input pixels; gt_class: (N, G, 1); pad_gt_mask: (N, G, 1), 1 for an
            object and 0 for padding. G may be 0.
        topk: number of candidates per object.
        eps: added to the greatest measure before dividing by it.
    """
    images, objects = gt_bbox.shape[:2]
    num_classes = predicted_scores.shape[-1]
    if objects == 0:
        return background(images, points.shape[0], num_classes)
    overlaps = pairwise_iou(gt_bbox, predicted_boxes)
    image = paddle.arange(images, dtype="int64").reshape([-1, 1, 1]).expand([-1, objects, 1])
    which = paddle.concat([image, gt_class.astype("int64")], axis=-1)
    class_scores = paddle.gather_nd(predicted_scores.transpose([0, 2, 1]), which)  # (N, G, L)
    measure = class_scores.pow(alpha) * overlaps.pow(beta)
    inside = points_inside(points, gt_bbox).astype(measure.dtype)
    candidates, _ = top_candidates(measure * inside, topk, largest=True)
    match = one_object_a_point(candidates * inside * pad_gt_mask, overlaps)
    measure = measure * match
    best_measure = measure.max(axis=-1, keepdim=True)
    best_overlap = (overlaps * match).max(axis=-1, keepdim=True)
    quality = (measure / (best_measure + eps) * best_overlap).max(axis=-2)
    return targets(match, gt_bbox, gt_class, quality, num_classes)
