"""Losses of box pairs: 1 - IoU, 1 - GIoU and related ones.

Boxes are (P, 4), x1 y1 x2 y2, `P` pairs, prediction and target in one unit. Each function returns (P,).
"""

from __future__ import annotations

import math

import paddle
from paddle import Tensor


def _iou_and_union(prediction: Tensor, target: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    low = paddle.maximum(prediction[:, :2], target[:, :2])
    high = paddle.minimum(prediction[:, 2:], target[:, 2:])
    overlap = _area((high - low).clip(0))
    union = _area(_size(prediction)) + _area(_size(target)) - overlap + eps
    return overlap / union, union


def _size(boxes: Tensor) -> Tensor:
    return boxes[:, 2:] - boxes[:, :2]


def _area(size: Tensor) -> Tensor:
    return size[:, 0] * size[:, 1]  # `prod` has no finite gradient where a side is 0


def _hull(prediction: Tensor, target: Tensor) -> Tensor:
    """Width and height, (P, 2), of the smallest box around both."""
    low = paddle.minimum(prediction[:, :2], target[:, :2])
    return paddle.maximum(prediction[:, 2:], target[:, 2:]) - low


def _squared_centre_distance(prediction: Tensor, target: Tensor) -> Tensor:
    shift = (prediction[:, :2] + prediction[:, 2:] - target[:, :2] - target[:, 2:]) / 2
    return (shift * shift).sum(axis=-1)


def aligned_iou(first: Tensor, second: Tensor, eps: float = 1e-6) -> Tensor:
    """IoU of each pair, (P,); `eps` is the lower bound of the union."""
    low = paddle.maximum(first[:, :2], second[:, :2])
    overlap = _area((paddle.minimum(first[:, 2:], second[:, 2:]) - low).clip(0))
    return overlap / (_area(_size(first)) + _area(_size(second)) - overlap).clip(min=eps)


def giou_loss(prediction: Tensor, target: Tensor, eps: float = 1e-10) -> Tensor:
    """1 - GIoU, https://arxiv.org/abs/1902.09630."""
    iou, union = _iou_and_union(prediction, target, eps)
    hull = _area(_hull(prediction, target)) + eps
    return 1 - (iou - (hull - union) / hull)


def diou_loss(prediction: Tensor, target: Tensor, eps: float = 1e-10) -> Tensor:
    """1 - IoU + squared distance of the centres / squared diagonal of the hull.

    Source: https://arxiv.org/abs/1911.08287.
    """
    iou, _ = _iou_and_union(prediction, target, eps)
    diagonal = _hull(prediction, target).square().sum(axis=-1)
    return 1 - iou + (_squared_centre_distance(prediction, target) + eps) / (diagonal + eps)


def ciou_loss(prediction: Tensor, target: Tensor, eps: float = 1e-10) -> Tensor:
    """DIoU loss plus a penalty on the difference of the aspect ratios, https://arxiv.org/abs/1911.08287."""
    iou, _ = _iou_and_union(prediction, target, eps)
    size, size_target = _size(prediction), _size(target)
    turn = paddle.atan(size_target[:, 0] / (size_target[:, 1] + eps)) - paddle.atan(
        size[:, 0] / (size[:, 1] + eps)
    )
    aspect = 4 / math.pi**2 * turn * turn
    weight = (aspect / (1 - iou + aspect + eps)).detach()
    return diou_loss(prediction, target, eps) + weight * aspect


def siou_loss(prediction: Tensor, target: Tensor, theta: float = 4.0, eps: float = 1e-10) -> Tensor:
    """1 - IoU + (distance cost by angle + shape cost) / 2, https://arxiv.org/abs/2205.12740."""
    iou, _ = _iou_and_union(prediction, target, eps)
    shift = (prediction[:, :2] + prediction[:, 2:] - target[:, :2] - target[:, 2:]).abs() / 2
    distance = (shift.square().sum(axis=-1) + eps).sqrt()
    sine = shift.min(axis=-1) / distance  # of the angle to the nearer axis, at most 45 degrees
    angle = 2 * sine * (1 - sine * sine).clip(0).sqrt()
    ratio = shift / (_hull(prediction, target) + eps)
    distance_cost = (1 - paddle.exp((angle - 2).unsqueeze(-1) * ratio * ratio)).sum(axis=-1)
    size, size_target = _size(prediction) + eps, _size(target) + eps
    stretch = (size - size_target).abs() / paddle.maximum(size, size_target)
    shape_cost = (1 - paddle.exp(-stretch)).pow(theta).sum(axis=-1)
    return 1 - iou + (distance_cost + shape_cost) / 2


def iou_loss(
    prediction: Tensor, target: Tensor, kind: str = "iou", square: bool = True, eps: float = 1e-9
) -> Tensor:
    """1 - x, or 1 - x squared (https://arxiv.org/abs/1908.03851), where x is the chosen variant of IoU.

    Args:
        kind: the variant: `iou`, `giou`, `diou` or `ciou`.
        square: whether x is squared.
    """
    if kind == "iou":
        loss = 1 - _iou_and_union(prediction, target, eps)[0]
    else:
        loss = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}[kind](prediction, target, eps)
    return 1 - (1 - loss).square() if square else loss
