"""Localization distillation: a student's distributions of the distances of a box's sides follow a teacher's.

Source: Localization Distillation for Dense Object Detection, https://arxiv.org/abs/2102.12252; the mean over the bins
is PaddleDetection's (ppdet/slim/distill_loss.py, KnowledgeDistillationKLDivLoss).
"""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor


def localization_distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Divergence of each distribution from the teacher's, both softened by a temperature.

    Args:
        logits: (M, R + 1), the student's, before softmax.
        teacher: (M, R + 1), the teacher's; without gradient.
        temperature: above 0; both are divided by it, and the loss is multiplied by its square.

    Returns: (M,), the mean over the R + 1 bins.
    """
    wanted = F.softmax(teacher / temperature, axis=1)
    divergence = F.kl_div(F.log_softmax(logits / temperature, axis=1), wanted, reduction="none")
    return divergence.mean(axis=1) * temperature**2
