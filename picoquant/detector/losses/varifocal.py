"""Varifocal loss: focal loss on the negatives only, cross-entropy with the IoU on the positives.

Source: https://arxiv.org/abs/2008.13367.
"""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor

from picoquant.detector.losses.power import power


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
