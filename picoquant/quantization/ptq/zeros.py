"""Zeros of a pruned network that quantisation keeps.

A weight of 0 stays 0 by nearest rounding, as weights have no zero point; what moves weights otherwise has to leave
such zeros alone.
"""

from __future__ import annotations

import numpy as np

SPARSE = 0.1  # part of zeros, beside filters that are 0 altogether, from which a weight counts as pruned


def kept_zeros(weight: np.ndarray) -> np.ndarray | None:
    """Which values of a weight stay 0, as a mask; None for a weight that was not pruned.

    Args:
        weight: `[filters, ...]`. Filters without any other value are switched off, not pruned: they do not count.
    """
    zeros = weight == 0
    alive = ~zeros.reshape(len(weight), -1).all(axis=1)
    if not alive.any() or zeros[alive].mean() < SPARSE:
        return None
    return zeros
