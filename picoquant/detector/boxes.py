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
    # Coordinate by coordinate: kernels that broadcast over an innermost axis of two take five times as long.
    left, top, right, bottom = (side.unsqueeze(-1) for side in first.unbind(-1))
    others = [side.unsqueeze(-2) for side in second.unbind(-1)]
    width = paddle.minimum(right, others[2]) - paddle.maximum(left, others[0])
    height = paddle.minimum(bottom, others[3]) - paddle.maximum(top, others[1])
    overlap = width.clip(0) * height.clip(0)
    areas = _area(first).unsqueeze(-1) + _area(second).unsqueeze(-2)
    return overlap / (areas - overlap + eps)


def points_inside(points: Tensor, boxes: Tensor, eps: float = 1e-9) -> Tensor:
    """Which points lie strictly inside which boxes.

    Args:
        points: (L, 2), or each box's own, (..., G, L, 2).
        boxes: (..., G, 4).
        eps: a point is inside where it is farther than this from every side.

    Returns: (..., G, L) bool.
    """
    left, top, right, bottom = (side.unsqueeze(-1) for side in boxes.unbind(-1))
    x, y = points.unbind(-1)
    return (x - left > eps) & (y - top > eps) & (right - x > eps) & (bottom - y > eps)


def centres(boxes: Tensor) -> Tensor:
    """Centres x y, (..., 2), of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _area(boxes: Tensor) -> Tensor:
    """Areas (...) of boxes (..., 4)."""
    left, top, right, bottom = boxes.unbind(-1)
    return (right - left).clip(0) * (bottom - top).clip(0)
