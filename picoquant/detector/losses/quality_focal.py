"""Quality focal loss: cross-entropy with the IoU, weighted by the distance of the score from it.

Source: Generalized Focal Loss, https://arxiv.org/abs/2006.04388.
"""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor

from picoquant.detector.losses.power import power


def quality_focal_loss(logits: Tensor, target: Tensor, beta: float = 2.0) -> Tensor:
    """The loss of each element.

    Args:
        logits: (M, C).
        target: (M, C), the IoU in the column of a positive's class, 0 elsewhere.
        beta: focusing exponent.

    Returns: (M, C).
    """
    distance = (F.sigmoid(logits) - target).abs()
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * power(distance, beta)
