"""Freezing in the last part of QAT: weights still train, ranges of activations and batch-norm statistics do not.

The weights then train with the ranges that will be deployed; ranges and statistics that follow single batches to
the end leave both a little off (Jacob et al. 2018, https://arxiv.org/abs/1712.05877, and Krishnamoorthi 2018,
https://arxiv.org/abs/1806.08342, section 3.2.4).
"""

from __future__ import annotations


def freeze_step(steps: int, part: float) -> int:
    """The number of steps after which ranges and statistics are frozen.

    Args:
        steps: of the whole training.
        part: the last part of it that is trained frozen, 0 to below 1.
    """
    return steps - int(part * steps)
