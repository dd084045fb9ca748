"""Adaptive training sample selection, https://arxiv.org/abs/1912.02424.

For each object the nearest points of every level are candidates. A candidate is assigned to the object
where it lies inside it and the IoU of its square anchor with the object is above the mean plus the standard
deviation of the candidates' IoUs. Letters of dimensions as in `matching`.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor

from picoquant.detector.anchors import Grid
from picoquant.detector.assigners.matching import (
    Assignment,
    BoxesAt,
    HardAssignment,
    Objects,
    background,
    objects_of,
    owners,
    targets,
    top_candidates,
)
from picoquant.detector.boxes import centres, pairwise_iou, points_inside


@paddle.no_grad()
def assign_atss(
    anchors: Tensor,
    counts: Sequence[int],
    boxes_at: BoxesAt,
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
        boxes_at: the predicted boxes of some points.
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
    images, points = gt_bbox.shape[0], anchors.shape[0]
    objects = objects_of(gt_bbox, pad_gt_mask)
    if objects is None:
        return background(images, points, num_classes)
    near = _nearest(anchors, counts, objects.boxes, topk)
    squares = paddle.gather(anchors, near.flatten()).reshape([*near.shape, 4])
    overlaps = pairwise_iou(objects.boxes.unsqueeze(1), squares, eps=1e-10).squeeze(1)
    deviation = overlaps.std(axis=-1, keepdim=True, unbiased=not inclusive)
    threshold = overlaps.mean(axis=-1, keepdim=True) + deviation
    enough = overlaps >= threshold if inclusive else overlaps > threshold
    inside = points_inside(centres(squares), objects.boxes, eps=0.01 if inclusive else 1e-9)
    chosen = paddle.nonzero(enough & inside)
    owner = paddle.full([images * points], -1, "int64")

    def of_all(numbers: Tensor) -> Tensor:
        own = paddle.gather(anchors, numbers % points).unsqueeze(1)
        return pairwise_iou(paddle.gather(gt_bbox, numbers // points), own, eps=1e-10).squeeze(-1)

    if chosen.shape[0]:
        which = chosen[:, 0]
        numbers = paddle.gather(objects.image, which) * points + paddle.gather_nd(near, chosen)
        places = paddle.gather(objects.place, which)
        owner = owners(numbers, places, images * points, of_all, sm_use)
    if force_gt_matching:
        owner = _force(owner, anchors, objects)
    quality = paddle.zeros([images * points])
    owned = paddle.nonzero(owner >= 0).flatten()
    if owned.shape[0]:
        pairs = paddle.stack([owned // points, paddle.gather(owner, owned)], axis=-1)
        own = paddle.gather_nd(gt_bbox, pairs).unsqueeze(1)
        reached = pairwise_iou(own, boxes_at(owned).unsqueeze(1)).flatten()
        quality = paddle.scatter(quality, owned, reached)
    return targets(owner, gt_bbox, gt_class, quality, num_classes)


def _nearest(anchors: Tensor, counts: Sequence[int], boxes: Tensor, topk: int) -> Tensor:
    """The nearest points of every object, `topk` of each level, (R, K)."""
    across, down = (
        one.unsqueeze(-1) - other
        for one, other in zip(centres(boxes).unbind(-1), centres(anchors).unbind(-1))
    )
    distances = (across * across + down * down).sqrt()
    found, start = [], 0
    for level in paddle.split(distances, list(counts), axis=-1):
        found.append(top_candidates(level, topk, largest=False) + start)
        start += level.shape[-1]
    return paddle.concat(found, axis=-1)


def _force(owner: Tensor, anchors: Tensor, objects: Objects) -> Tensor:
    """Assign to each object its point of the greatest IoU, unless that is the best of several objects."""
    points = anchors.shape[0]
    best = pairwise_iou(objects.boxes, anchors, eps=1e-10).argmax(axis=-1) + objects.image * points
    wanted = paddle.bincount(best, minlength=owner.shape[0])
    alone = paddle.nonzero(paddle.gather(wanted, best) == 1).flatten()
    if alone.shape[0] == 0:
        return owner
    return paddle.scatter(owner, paddle.gather(best, alone), paddle.gather(objects.place, alone))


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
        lambda numbers: paddle.gather(boxes.reshape([-1, 4]), numbers),
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
