"""The negatives' part of the varifocal loss on CPU, in blocks that stay in a core's cache, by NumPy on all cores.

Paddle's elementwise operators on CPU use one core, go through memory once each, and its logarithm is that of the C
library, value by value. A batch of 16 images of 416 px has 4.6 million scores.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from picoquant.utils.device import available_cpus

LOG_FLOOR = -100.0  # where paddle's cross-entropy clips logarithms
EPS = 1e-12  # lower bound of the divisor in its gradient
_BLOCK = 1 << 14  # values; six such arrays are 400 KB


def negatives(scores: np.ndarray, gradient: np.ndarray, alpha: float) -> float:
    """The sum of -alpha p^2 log(1 - p), the same on any number of cores; its gradient is written.

    Args:
        scores: (M,) float32, p, 0 to 1.
        gradient: (M,) float32, receives alpha (p^2 / (1 - p) - 2 p log(1 - p)).
    """
    blocks = range(0, len(scores), _BLOCK)
    cores = available_cpus()
    with ThreadPoolExecutor(cores) as pool:
        parts = list(pool.map(lambda core: _some(scores, gradient, alpha, blocks[core::cores]), range(cores)))
    sums = np.zeros(len(blocks))
    for core, part in enumerate(parts):
        sums[core::cores] = part
    return -alpha * float(sums.sum())


def _some(scores: np.ndarray, gradient: np.ndarray, alpha: float, starts: range) -> list[float]:
    """Sums of p^2 log(1 - p) of the blocks that begin at `starts`."""
    sums = []
    rest, log, square = (np.empty(_BLOCK, np.float32) for _ in range(3))
    for start in starts:
        p, out = scores[start : start + _BLOCK], gradient[start : start + _BLOCK]
        a, b, c = rest[: len(p)], log[: len(p)], square[: len(p)]
        np.subtract(np.float32(1), p, out=a)
        with np.errstate(divide="ignore", invalid="ignore"):  # of 0; what is no number stays so
            np.log(a, out=b)
        np.maximum(b, np.float32(LOG_FLOOR), out=b)
        np.multiply(p, p, out=c)
        np.multiply(c, b, out=out)
        sums.append(float(out.sum()))
        np.maximum(a, np.float32(EPS), out=a)
        np.divide(c, a, out=out)
        np.multiply(b, p, out=b)
        np.multiply(b, np.float32(2), out=b)
        np.subtract(out, b, out=out)
        np.multiply(out, np.float32(alpha), out=out)
    return sums
