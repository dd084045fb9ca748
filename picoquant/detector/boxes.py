"""Box arithmetic on tensors.

Boxes are x1 y1 x2 y2. `N` images, `G` objects of an image, `L` anchor points, `P` pairs. All boxes and
points of a call are in one unit, pixels or strides, and so is what is returned.
"""

from __future__ import annotations

import paddle
from paddle import Tensor


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Boxes from the distances of a point to their left, top, right and bottom sides.

    Args:
        points: (..., 2), x y.
        distances: (..., 4).

    Returns: (..., 4).
    """
    left_top, right_bottom = paddle.split(distances, 2, axis=-1)
    # The tensor with a batch dimension comes first: Paddle Lite broadcasts the second operand.
    return paddle.concat([-left_top + points, right_bottom + points], axis=-1)


def boxes_to_distances(points: Tensor, boxes: Tensor, limit: float) -> Tensor:
    """Distances of points to their boxes' left, top, right and bottom sides, clipped to 0..limit.

    Args:
        points: (P, 2), x y.
        boxes: (P, 4), one per point.

    Returns: (P, 4).
    """
    distances = paddle.concat([points - boxes[:, :2], boxes[:, 2:] - points], axis=-1)
    return distances.clip(0, limit)


def pairwise_iou(first: Tensor, second: Tensor, eps: float = 1e-9) -> Tensor:
    """Intersection over union of every box of `first` with every box of `second`.

    Args:
        first: (..., G, 4).
        second: (..., L, 4); its leading dimensions broadcast with those of `first`.
        eps: added to the union, so that the IoU of empty boxes is 0.

    Returns: (..., G, L), 0 to 1.
    """
    first, second = first.unsqueeze(-2), second.unsqueeze(-3)
    low = paddle.maximum(first[..., :2], second[..., :2])
    high = paddle.minimum(first[..., 2:], second[..., 2:])
    overlap = _area(high - low)
    areas = _area(first[..., 2:] - first[..., :2]) + _area(second[..., 2:] - second[..., :2])
    return overlap / (areas - overlap + eps)


def points_inside(points: Tensor, boxes: Tensor, eps: float = 1e-9) -> Tensor:
    """Which points lie strictly inside which boxes.

    Args:
        points: (L, 2).
        boxes: (N, G, 4).
        eps: a point is inside where it is farther than this from every side.

    Returns: (N, G, L) bool.
    """
    boxes = boxes.unsqueeze(2)
    inside = paddle.concat([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)
    return inside.min(axis=-1) > eps


def centres(boxes: Tensor) -> Tensor:
    """Centres x y, (..., 2), of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _area(sides: Tensor) -> Tensor:
    sides = sides.clip(0)
    return sides[..., 0] * sides[..., 1]
