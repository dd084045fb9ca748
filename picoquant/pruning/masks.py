"""Which weights of which layers are 0, by their absolute values.

Source of the rule: PaddleSlim 2.6, dygraph/prune/unstructured_pruner.py: of `n` values the one at position
`round(part * n) - 1` of the ascending order is the threshold, and what is smaller becomes 0; the value itself stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def threshold_of(values: np.ndarray, part: float) -> float:
    """The threshold below which about `part` of values are, by absolute value.

    Args:
        values: of any shape.
        part: 0 to below 1.
    """
    ordered = np.sort(np.abs(values), axis=None)
    return float(ordered[max(0, round(part * ordered.size) - 1)])


def masks_of(
    weights: Mapping[str, np.ndarray], part: float, local: bool, threshold: float | None = None
) -> dict[str, np.ndarray]:
    """Masks of weights: 1 where a weight stays, 0 where it becomes 0, float32.

    Args:
        weights: by name.
        part: of the weights that become 0.
        local: of each layer alone; false: of all together.
        threshold: in place of `part`.
    """
    if threshold is None and not local and weights:
        threshold = threshold_of(np.concatenate([value.ravel() for value in weights.values()]), part)
    found = {}
    for name, value in weights.items():
        least = threshold_of(value, part) if threshold is None else threshold
        found[name] = (np.abs(value) >= np.float32(least)).astype(np.float32)
    return found
