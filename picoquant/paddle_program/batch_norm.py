"""What a batch-norm is in test mode: a factor and a shift for each channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

PARTS = ("Scale", "Bias", "Mean", "Variance")


def factor_and_shift(
    parts: Mapping[str, np.ndarray], epsilon: float, bias: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """`factor` `[C]` float64 and `shift` `[C]` float32, with which batch-norm of `x + bias` is `factor * x + shift`.

    Args:
        parts: `[C]` each, by the slots of Paddle's operator (`PARTS`).
        epsilon: of the operator.
        bias: added before it, `[C]`; 0 for none.
    """
    gamma, beta, mean, variance = (parts[slot].astype(np.float64) for slot in PARTS)
    factor = gamma / np.sqrt(variance + epsilon)
    return factor, ((bias - mean) * factor + beta).astype(np.float32)
