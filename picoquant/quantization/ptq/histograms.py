"""Histograms of tensors, filled batch by batch: memory does not grow with the number of images."""

from __future__ import annotations

import numpy as np

# To each side of 0. The range doubles when a value is outside, so at worst half of the bins are used.
BINS = 8192
_START = 2.0**-10


class Histogram:
    """Counts of values in equal bins from -`bound` to `bound`.

    Attributes:
        counts: `[2 * BINS]` int64.
        bound: the largest value that fits, a power of two.
        low, high: smallest and largest value added.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(2 * BINS, np.int64)
        self.bound = _START
        self.low, self.high = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Count values, float32 of any shape; all must be finite."""
        values = values.reshape(-1)
        if not values.size:
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        while self.absmax > self.bound:
            self._widen()
        bins = (values * np.float32(BINS / self.bound)).astype(np.int32)
        # Conversion goes towards 0: bin 0 would get both signs.
        bins[values < 0] -= 1
        np.clip(bins, -BINS, BINS - 1, out=bins)
        self.counts += np.bincount(bins + BINS, minlength=2 * BINS)

    @property
    def absmax(self) -> float:
        """The largest absolute value added; 0 when nothing was."""
        return max(-self.low, self.high, 0.0)

    @property
    def centres(self) -> np.ndarray:
        """`[2 * BINS]` float64: the middle of each bin, but not outside `low` ... `high`."""
        middles = (np.arange(-BINS, BINS) + 0.5) * (self.bound / BINS)
        return np.clip(middles, min(self.low, self.high), max(self.low, self.high))

    def _widen(self) -> None:
        pairs = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.zeros_like(self.counts)
        self.counts[BINS // 2 : BINS + BINS // 2] = pairs
        self.bound *= 2
