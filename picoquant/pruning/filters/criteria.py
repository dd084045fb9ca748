"""How much a filter matters: the least are removed first.

Source of both, and of how many go: PaddleSlim 2.6, dygraph/prune/fpgm_pruner.py and l1norm_pruner.py.
"""

from __future__ import annotations

import numpy as np


def fpgm(weight: np.ndarray) -> np.ndarray:
    """The sum of a filter's distances from all others, `[filters]`; https://arxiv.org/abs/1811.00250.

    Args:
        weight: `[filters, channels, height, width]`.
    """
    flat = weight.reshape(len(weight), -1)
    return np.array([np.sqrt(((flat - one) ** 2).sum(axis=-1)).sum() for one in flat])


def l1_norm(weight: np.ndarray) -> np.ndarray:
    """The mean absolute value of a filter's weights, `[filters]`; as `fpgm`."""
    return np.abs(weight).mean(axis=tuple(range(1, weight.ndim)))


SCORES = {"fpgm": fpgm, "l1_norm": l1_norm}


def least(scores: np.ndarray, ratio: float) -> np.ndarray:
    """Positions of the filters that are removed, the least first; one at least stays.

    Args:
        scores: `[filters]`.
        ratio: which part of them.
    """
    count = min(len(scores) - 1, round(len(scores) * ratio))
    return scores.argsort(kind="stable")[:count]
