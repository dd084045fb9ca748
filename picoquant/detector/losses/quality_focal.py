"""Quality focal loss: cross-entropy with the IoU, weighted by the distance of the score from it.

Source: Generalized Focal Loss, https://arxiv.org/abs/2006.04388.
"""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor

from picoquant.detector.losses.power import power


def quality_focal_loss(
    prediction: Tensor, target: Tensor, beta: float = 2.0, use_sigmoid: bool = True
) -> Tensor:
    """The loss of each element.

    Args:
        prediction: (M, C); logits where `use_sigmoid`, else probabilities.
        target: (M, C), the IoU in the column of a positive's class, 0 elsewhere; or a teacher's scores.
        beta: focusing exponent.

    Returns: (M, C).
    """
    probability = F.sigmoid(prediction) if use_sigmoid else prediction
    entropy = F.binary_cross_entropy_with_logits if use_sigmoid else F.binary_cross_entropy
    return entropy(prediction, target, reduction="none") * power((probability - target).abs(), beta)
