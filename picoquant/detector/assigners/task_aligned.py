"""Task-aligned assignment, https://arxiv.org/abs/2108.07755.

For each object, the points inside it whose predictions have the best product of score and overlap are
assigned to it. Letters of dimensions as in `matching`.
"""

from __future__ import annotations

import paddle
from paddle import Tensor

from picoquant.detector.assigners.matching import (
    Assignment,
    BoxesAt,
    background,
    objects_of,
    owners,
    targets,
    top_candidates,
)
from picoquant.detector.boxes import pairwise_iou, points_inside


@paddle.no_grad()
def assign_task_aligned(
    points: Tensor,
    predicted_scores: Tensor,
    boxes_at: BoxesAt,
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
        predicted_scores: (N, L, C) probabilities.
        boxes_at: the predicted boxes of some points.
        gt_bbox: (N, G, 4), input pixels; gt_class: (N, G, 1); pad_gt_mask: (N, G, 1), 1 for an
            object and 0 for padding. G may be 0.
        topk: number of candidates per object.
        eps: added to the greatest measure before dividing by it.
    """
    (images, places), (count, num_classes) = gt_bbox.shape[:2], predicted_scores.shape[1:]
    objects = objects_of(gt_bbox, pad_gt_mask)
    inside = None if objects is None else points_inside(points, objects.boxes)
    pairs = None if inside is None else paddle.nonzero(inside)
    if pairs is None or pairs.shape[0] == 0:
        return background(images, count, num_classes)
    which, numbers = pairs[:, 0], pairs[:, 1] + paddle.gather(objects.image, pairs[:, 0]) * count
    boxes = _Boxes(boxes_at, numbers, images * count)

    def measured(numbers: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Measure and IoU of points with objects of their images, (M,) each."""
        of = paddle.stack([numbers // count, places], axis=-1)
        label = paddle.gather_nd(gt_class.squeeze(-1), of).astype("int64")
        score = paddle.gather_nd(
            predicted_scores.reshape([-1, num_classes]), paddle.stack([numbers, label], axis=-1)
        )
        own = paddle.gather_nd(gt_bbox, of).unsqueeze(1)
        overlap = pairwise_iou(own, boxes.of(numbers).unsqueeze(1)).flatten()
        return score.pow(alpha) * overlap.pow(beta), overlap

    def of_all(numbers: Tensor) -> Tensor:
        return pairwise_iou(paddle.gather(gt_bbox, numbers // count), boxes.of(numbers).unsqueeze(1)).squeeze(
            -1
        )

    measure, _ = measured(numbers, paddle.gather(objects.place, which))
    best = top_candidates(paddle.scatter_nd(pairs, measure, inside.shape), topk, largest=True)
    chosen = paddle.nonzero(paddle.take_along_axis(inside.astype("int32"), best, axis=-1))
    if chosen.shape[0] == 0:  # no point of any object has a measure above 0
        return background(images, count, num_classes)
    which = chosen[:, 0]
    claimed = paddle.gather(objects.image, which) * count + paddle.gather_nd(best, chosen)
    owner = owners(claimed, paddle.gather(objects.place, which), images * count, of_all)
    owned = paddle.nonzero(owner >= 0).flatten()
    place = paddle.gather(owner, owned)
    measure, overlap = measured(owned, place)
    own = owned // count * places + place
    greatest, reached = (_greatest(values, own) for values in (measure, overlap))
    quality = measure / (greatest + eps) * reached
    return targets(
        owner, gt_bbox, gt_class, paddle.scatter(paddle.zeros([images * count]), owned, quality), num_classes
    )


class _Boxes:
    """Predicted boxes of the points that lie in an object, each decoded once.

    Args:
        boxes_at: decodes them.
        numbers: (M,), of these points, any of them several times.
        count: N * L.
    """

    def __init__(self, boxes_at: BoxesAt, numbers: Tensor, count: int) -> None:
        known = paddle.scatter(paddle.zeros([count], "int64"), numbers, paddle.ones_like(numbers))
        self._boxes = boxes_at(paddle.nonzero(known).flatten())
        self._row = known.cumsum() - 1

    def of(self, numbers: Tensor) -> Tensor:
        """Those of points (P,): (P, 4), input pixels."""
        return paddle.gather(self._boxes, paddle.gather(self._row, numbers))


def _greatest(values: Tensor, owner: Tensor) -> Tensor:
    """For each of the values (P,), at least 0, the greatest of the same owner."""
    order = paddle.argsort(owner)
    found = paddle.geometric.segment_max(paddle.gather(values, order), paddle.gather(owner, order))
    return paddle.gather(found, owner)
