"""Batch-norm in test mode as a factor and a shift per channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

PARTS = ("Scale", "Bias", "Mean", "Variance")


def factor_and_shift(
    parts: Mapping[str, np.ndarray], epsilon: float, bias: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift with which batch-norm of `x + bias` equals `factor * x + shift`.

    Args:
        parts: the operator's stored values, `[C]` each, by the slots of Paddle's operator (`PARTS`).
        epsilon: the operator's attribute.
        bias: `[C]`, added to `x` before the batch-norm; 0 for none.

    Returns: factor `[C]` float64 and shift `[C]` float32.
    """
    gamma, beta, mean, variance = (parts[slot].astype(np.float64) for slot in PARTS)
    factor = gamma / np.sqrt(variance + epsilon)
    return factor, ((bias - mean) * factor + beta).astype(np.float32)
