"""Distribution focal loss: a distance is predicted as a distribution over the integers 0 to reg_max.

Source: Generalized Focal Loss, https://arxiv.org/abs/2006.04388.
"""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy with the two integers around the target, weighted by their nearness to it.

    Args:
        logits: (M, reg_max + 1), before softmax.
        target: (M,), in 0 <= target < reg_max.

    Returns: (M,).
    """
    below = target.astype("int64")
    nearness = target - below.astype(target.dtype)
    left = F.cross_entropy(logits, below, reduction="none").reshape([-1])
    right = F.cross_entropy(logits, below + 1, reduction="none").reshape([-1])
    return left * (1 - nearness) + right * nearness
