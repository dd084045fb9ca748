"""Varifocal loss: focal loss on the negatives only, cross-entropy with the IoU on the positives.

Source: https://arxiv.org/abs/2008.13367.
"""

from __future__ import annotations

from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.autograd import PyLayer

from picoquant.detector.losses.power import power
from picoquant.detector.losses.varifocal_blocks import EPS, LOG_FLOOR, negatives
from picoquant.utils.paddle_version.memory import float32_view


def varifocal_loss(
    prediction: Tensor,
    target: Tensor,
    alpha: float = 0.75,
    gamma: float = 2.0,
    iou_weighted: bool = True,
    use_sigmoid: bool = True,
) -> Tensor:
    """The loss of each element.

    Args:
        prediction: (M, C); logits where `use_sigmoid`, else probabilities.
        target: (M, C), IoU-aware scores, 0 to 1; 0 marks a negative.
        alpha, gamma: weight and focusing exponent of the negatives.
        iou_weighted: weigh the positives by their targets.

    Returns: (M, C).
    """
    probability = F.sigmoid(prediction) if use_sigmoid else prediction
    entropy = F.binary_cross_entropy_with_logits if use_sigmoid else F.binary_cross_entropy
    positive = (target > 0).astype(target.dtype)
    focus = power((probability - target).abs(), gamma)
    weight = (target if iou_weighted else 1.0) * positive + alpha * focus * (1 - positive)
    return entropy(prediction, target, reduction="none") * weight


def varifocal_total(
    prediction: Tensor,
    labels: Tensor,
    quality: Tensor,
    alpha: float = 0.75,
    gamma: float = 2.0,
    iou_weighted: bool = True,
) -> Tensor:
    """The sum of `varifocal_loss` over probabilities, for targets that are 0 but for one class a point.

    With the published exponent, 2, it takes a third of the passes over (M, C), and targets are not written out.

    Args:
        prediction: (M, C), probabilities.
        labels: (M,) integer, the class; read where `quality` is above 0.
        quality: (M,), IoU-aware score of that class, 0 to 1; 0 for background.
        others: as in `varifocal_loss`.

    Returns: a scalar.
    """
    index = paddle.nonzero(quality > 0).flatten()
    target = paddle.gather(quality, index)
    where = index * prediction.shape[1] + paddle.gather(labels, index).astype("int64")
    if gamma == 2:
        return _TotalOfProbabilities.apply(prediction, where, target, alpha, iou_weighted)
    every = paddle.zeros([prediction.size])
    if index.shape[0]:
        every = paddle.scatter(every, where, target)
    every = every.reshape(prediction.shape)
    return varifocal_loss(prediction, every, alpha, gamma, iou_weighted, use_sigmoid=False).sum()


class _TotalOfProbabilities(PyLayer):
    """The sum, and its gradient, which is computed beside it: both need the same logarithms."""

    @staticmethod
    def forward(
        context: Any, prediction: Tensor, where: Tensor, target: Tensor, alpha: float, iou_weighted: bool
    ) -> Tensor:
        """Negatives: -alpha p^2 log(1 - p). Positives: cross-entropy with the target t, weighted by it."""
        on_cpu = prediction.place.is_cpu_place() and prediction.dtype == paddle.float32
        whole = _on_cpu if on_cpu else _on_device
        total, gradient = whole(prediction.flatten(), alpha)
        if where.shape[0]:
            own = paddle.gather(prediction.flatten(), where)
            yes, no = (paddle.log(value).clip(min=LOG_FLOOR) for value in (own, 1 - own))
            weight = target if iou_weighted else paddle.ones_like(target)
            entropy = -(target * yes + (1 - target) * no)
            total = total + (weight * entropy + alpha * own.square() * no).sum()
            own_gradient = weight * (own - target) / (own * (1 - own)).clip(min=EPS)
            gradient = paddle.scatter_(gradient, where, own_gradient)
        context.save_for_backward(gradient.reshape(prediction.shape))
        return total

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
        """The gradient of the prediction alone."""
        (gradient,) = context.saved_tensor()
        return gradient * grad


def _on_cpu(prediction: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The sum over all as negatives, and its gradient (M * C,)."""
    gradient = paddle.empty_like(prediction)
    total = negatives(float32_view(prediction), float32_view(gradient), alpha)
    return paddle.to_tensor(total, dtype=prediction.dtype), gradient


def _on_device(prediction: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """As `_on_cpu`, by Paddle's operators."""
    rest = 1 - prediction
    log = paddle.log(rest).clip_(min=LOG_FLOOR)
    square = prediction.square()
    total = -alpha * paddle.dot(square, log)
    # alpha (p^2 / (1 - p) - 2 p log(1 - p))
    gradient = paddle.divide(square, rest.clip_(min=EPS)).subtract_(log.multiply_(prediction).scale_(2.0))
    return total, gradient.scale_(alpha)
