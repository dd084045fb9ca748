"""Signal and noise: how far a tensor is from what it should be, in decibels."""

from __future__ import annotations

import math

import numpy as np


class Noise:
    """The power of a signal and of its error, summed over images."""

    def __init__(self) -> None:
        self._signal, self._noise = 0.0, 0.0

    def add(self, exact: np.ndarray, found: np.ndarray) -> None:
        """Add a tensor; both arrays have the same shape."""
        exact = exact.astype(np.float64)
        self._signal += float(np.square(exact).sum())
        self._noise += float(np.square(exact - found).sum())

    @property
    def decibels(self) -> float:
        """10 log10(signal / noise): infinite without noise, `-inf` for noise without a signal.

        NaN where either is NaN, or nothing was added.
        """
        if math.isnan(self._noise) or math.isnan(self._signal):
            return math.nan
        if self._noise == 0:
            return math.inf if self._signal else math.nan
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf


def plain(value: float, digits: int = 2) -> float | None:
    """A number for JSON and CSV: rounded; None for infinite and NaN."""
    return round(value, digits) if math.isfinite(value) else None
