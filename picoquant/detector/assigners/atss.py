"""Adaptive training sample selection, https://arxiv.org/abs/1912.02424.

For each object the nearest points of every level are candidates. A candidate is assigned to the object
where it lies inside it and the IoU of its square anchor with the object is above the mean plus the standard
deviation of the candidates' IoUs. Letters of dimensions as in `matching`.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from picoquant.detector.anchors import Grid
from picoquant.detector.assigners.matching import (
    Assignment,
    HardAssignment,
    background,
    one_object_a_point,
    targets,
    top_candidates,
)
from picoquant.detector.boxes import centres, pairwise_iou, points_inside


@paddle.no_grad()
def assign_atss(
    anchors: Tensor,
    counts: Sequence[int],
    predicted_boxes: Tensor,
    gt_bbox: Tensor,
    gt_class: Tensor,
    pad_gt_mask: Tensor,
    num_classes: int,
    topk: int = 9,
    force_gt_matching: bool = False,
    sm_use: bool = False,
    inclusive: bool = False,
) -> Assignment:
    """Assign points to objects; a point's target score is the IoU of its predicted box with the object.

    Args:
        anchors: (L, 4) squares around the points, input pixels.
        counts: number of points of each level.
        predicted_boxes: (N, L, 4), input pixels.
        gt_bbox: (N, G, 4), input pixels; gt_class: (N, G, 1); pad_gt_mask: (N, G, 1), 1 for an
            object and 0 for padding. G may be 0.
        topk: number of candidates per object and level.
        force_gt_matching: assign to every object at least the point of its greatest IoU.
        sm_use: a point assigned to several objects keeps the one of the greatest IoU among these, not
            among all objects.
        inclusive: as in PaddleDetection's other implementation, an IoU equal to the threshold is enough,
            the standard deviation divides by n, not n - 1, and a point is inside where it is farther than
            0.01 pixels from every side.
    """
    images, objects = gt_bbox.shape[:2]
    if objects == 0:
        return background(images, anchors.shape[0], num_classes)
    overlaps = pairwise_iou(gt_bbox, anchors, eps=1e-10)
    candidates, indices = _nearest(anchors, counts, gt_bbox, topk)
    candidates = candidates * pad_gt_mask
    among = paddle.take_along_axis(overlaps * candidates, indices, axis=-1)
    deviation = among.std(axis=-1, keepdim=True, unbiased=not inclusive)
    threshold = among.mean(axis=-1, keepdim=True) + deviation
    enough = overlaps * candidates >= threshold if inclusive else overlaps * candidates > threshold
    inside = points_inside(centres(anchors), gt_bbox, eps=0.01 if inclusive else 1e-9)
    match = candidates * (enough & inside).astype(candidates.dtype)
    match = one_object_a_point(match, overlaps * match if sm_use else overlaps)
    if force_gt_matching:
        match = _force(match, overlaps, pad_gt_mask)
    quality = (pairwise_iou(gt_bbox, predicted_boxes) * match).max(axis=-2)
    return targets(match, gt_bbox, gt_class, quality, num_classes)


def _nearest(anchors: Tensor, counts: Sequence[int], gt_bbox: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Mask (N, G, L) and indices (N, G, K) of the nearest points, `topk` of every level."""
    across, down = (
        one.unsqueeze(-1) - other
        for one, other in zip(centres(gt_bbox).unbind(-1), centres(anchors).unbind(-1))
    )
    distances = (across * across + down * down).sqrt()
    masks, indices, start = [], [], 0
    for level in paddle.split(distances, list(counts), axis=-1):
        mask, index = top_candidates(level, topk, largest=False)
        masks.append(mask)
        indices.append(index + start)
        start += level.shape[-1]
    return paddle.concat(masks, axis=-1), paddle.concat(indices, axis=-1)


def _force(match: Tensor, overlaps: Tensor, pad_gt_mask: Tensor) -> Tensor:
    """Assign to each object its point of the greatest IoU, unless that is the best of several objects."""
    best = F.one_hot(overlaps.argmax(axis=-1), match.shape[-1]) * pad_gt_mask
    alone = (best.sum(axis=-2, keepdim=True) == 1).expand_as(match)
    return paddle.where(alone, best, match)


def assign_atss_hard(
    grid: Grid,
    scores: Tensor,
    boxes: Tensor,
    gt_bbox: Tensor,
    gt_class: Tensor,
    pad_gt_mask: Tensor,
    grid_cell_scale: float = 5.0,
    topk: int = 9,
    force_gt_matching: bool = False,
) -> HardAssignment:
    """ATSS for the August 2021 heads, which compute the target scores themselves.

    Args:
        grid: the anchor points; anchors are squares `grid_cell_scale` strides wide around them.
        scores: (N, L, C); boxes: (N, L, 4), predicted, input pixels.
        others: as in `assign_atss`.
    """
    num_classes = scores.shape[-1]
    found = assign_atss(
        paddle.to_tensor(grid.boxes(grid_cell_scale)),
        grid.counts,
        boxes,
        gt_bbox,
        gt_class,
        pad_gt_mask,
        num_classes,
        topk=topk,
        force_gt_matching=force_gt_matching,
        sm_use=True,
        inclusive=True,
    )
    positives = (found.labels < num_classes).astype("float32").sum(axis=-1)
    return HardAssignment(found.labels, found.boxes, float(positives.clip(min=1).sum()))
