"""The negatives' part of the varifocal loss on CPU, in blocks that stay in a core's cache, by NumPy.

Paddle's elementwise operators on CPU use one core, too, go through memory once each, and its logarithm is that of the C
library, value by value. A batch of 16 images of 416 px has 4.6 million scores. Threads do not help: they would wait for
each other between calls as short as these (7.3 ms on two, 6.6 ms on one).
"""

from __future__ import annotations

import numpy as np

LOG_FLOOR = -100.0  # where paddle's cross-entropy clips logarithms
EPS = 1e-12  # lower bound of the divisor in its gradient
_BLOCK = 1 << 16  # values; five such arrays are 1.3 MB. In smaller ones calls cost more than memory


def negatives(scores: np.ndarray, gradient: np.ndarray, alpha: float) -> float:
    """The sum of -alpha p^2 log(1 - p); its gradient is written.

    Args:
        scores: (M,) float32, p, 0 to 1.
        gradient: (M,) float32, receives alpha (p^2 / (1 - p) - 2 p log(1 - p)).
    """
    total = 0.0
    rest, log, square = (np.empty(min(_BLOCK, len(scores)), np.float32) for _ in range(3))
    for start in range(0, len(scores), _BLOCK):
        p, out = scores[start : start + _BLOCK], gradient[start : start + _BLOCK]
        a, b, c = rest[: len(p)], log[: len(p)], square[: len(p)]
        np.subtract(np.float32(1), p, out=a)
        limited = not a.min() > 0  # 1 - p is less than EPS only where it is 0; what is no number stays so
        with np.errstate(divide="ignore", invalid="ignore"):
            np.log(a, out=b)
        if limited:
            np.maximum(b, np.float32(LOG_FLOOR), out=b)
            np.maximum(a, np.float32(EPS), out=a)
        np.multiply(p, p, out=c)
        np.multiply(c, b, out=out)
        total += float(out.sum())
        np.divide(c, a, out=out)
        np.multiply(b, p, out=b)
        np.multiply(b, np.float32(2), out=b)
        np.subtract(out, b, out=out)
        np.multiply(out, np.float32(alpha), out=out)
    return -alpha * total
