"""Histograms of tensors, filled batch by batch: memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# To each side of 0. The range doubles when a value is outside, so at worst half of the bins are used.
BINS = 8192
_START = 2.0**-10
_MOST = 1 << 19  # values that are counted of a tensor; of more every second, third … stands for all
_AT_ONCE = (
    1 << 15
)  # values that are counted at once: all that is computed of them stays in the processor's cache


def bins_of(values: np.ndarray, bound: float, bins: int) -> np.ndarray:
    """The bin of each value among `2 * bins` equal ones from -`bound` to `bound`; what is outside is in the last.

    Args:
        values: float32.
        bound: above 0.
        bins: to each side of 0.
    """
    places = values * np.float32(bins / bound)
    np.floor(places, out=places)
    np.clip(places, -bins, bins - 1, out=places)
    places += bins
    return places.astype(np.intp)


def chunks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Parts of flat arrays of one length that are quick to count."""
    for start in range(0, arrays[0].size, _AT_ONCE):
        yield tuple(one[start : start + _AT_ONCE] for one in arrays)


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

    def add(self, values: np.ndarray, first: int = 0, total: int | None = None) -> None:
        """Count values, float32 of any shape, of very many some; all must be finite, and all may widen the range.

        Args:
            values: all, or those of some images of a batch.
            first: how many of the batch are before them.
            total: values of the batch, of which as many are counted as if they came together; None: these.
        """
        values = values.reshape(-1)
        if not values.size:
            return
        self._reach(float(values.min()), float(values.max()))
        step = 1 + ((total or values.size) - 1) // _MOST
        some = values[-first % step :: step]
        for (part,) in chunks(some):
            self.counts += np.bincount(bins_of(part, self.bound, BINS), minlength=2 * BINS)

    def merge(self, other: Histogram) -> None:
        """Add what another one has counted, which may be changed by it."""
        if other.low > other.high:
            return
        self._reach(other.low, other.high)
        while other.bound < self.bound:
            other._widen()
        self.counts += other.counts

    def _reach(self, low: float, high: float) -> None:
        """Make room for values from `low` to `high`."""
        empty = self.low > self.high
        self.low, self.high = min(self.low, low), max(self.high, high)
        while self.absmax > self.bound:
            if empty:
                self.bound *= 2
            else:
                self._widen()

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
