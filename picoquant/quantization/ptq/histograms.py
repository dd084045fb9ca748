"""Histograms of tensors, filled batch by batch: memory does not grow with the number of images."""

from __future__ import annotations

import numpy as np

# To each side of 0. The range doubles when a value is outside, so at worst half of the bins are used.
BINS = 8192
_START = 2.0**-10


class Histogram:
    """Counts of values in equal bins from -`top` to `top`.

    Attributes:
        counts: `[2 * BINS]` int64.
        top: the largest value that fits, a power of two.
        low, high: smallest and largest value seen.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(2 * BINS, np.int64)
        self.top = _START
        self.low, self.high = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Count finite values of any shape."""
        values = values.reshape(-1)
        if not values.size:
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        while self.largest > self.top:
            self._widen()
        bins = (values * np.float32(BINS / self.top)).astype(np.int32)
        # Conversion goes towards 0: bin 0 would get both signs.
        bins[values < 0] -= 1
        np.clip(bins, -BINS, BINS - 1, out=bins)
        self.counts += np.bincount(bins + BINS, minlength=2 * BINS)

    @property
    def largest(self) -> float:
        """The largest absolute value seen; 0 when nothing was."""
        return max(-self.low, self.high, 0.0)

    @property
    def centres(self) -> np.ndarray:
        """`[2 * BINS]`: the middle of each bin, but not outside the values seen."""
        middles = (np.arange(-BINS, BINS) + 0.5) * (self.top / BINS)
        return np.clip(middles, min(self.low, self.high), max(self.low, self.high))

    def _widen(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.zeros_like(self.counts)
        self.counts[BINS // 2 : BINS + BINS // 2] = pairs
        self.top *= 2
