"""Statistics of a tensor: range, outliers, and how much of it an INT8 range clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picoquant.int8.quant_params import QuantParams

_SAMPLED = 100_000  # values of an image that percentiles are computed from
_PERCENTILES = (99.0, 99.9, 99.99)


@dataclass(frozen=True)
class Values:
    """Statistics of a tensor over all images.

    Attributes:
        low, high: smallest and largest value.
        percentiles: of the absolute values, by percentage.
        channel_spread: absmax, divided by the median of the channels' absmax (`[N, C, H, W]` only, else 1): how much
            of the range only few channels need.
    """

    low: float
    high: float
    percentiles: dict[float, float]
    channel_spread: float

    @property
    def absmax(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high)

    @property
    def outliers(self) -> float:
        """Absmax, divided by the 99.9th percentile; 1: no outliers."""
        usual = self.percentiles[99.9]
        return self.absmax / usual if usual else 1.0


class Watch:
    """Collects a tensor's values, an image or a batch at a time."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._sample: list[np.ndarray] = []
        self._channels: np.ndarray | None = None

    def add(self, value: np.ndarray) -> None:
        """Add an array, the batch first."""
        self._low = min(self._low, float(value.min()))
        self._high = max(self._high, float(value.max()))
        size = np.abs(value)
        flat = size.reshape(-1)
        self._sample.append(flat[:: -(-flat.size // _SAMPLED)].copy())
        if value.ndim == 4:
            channels = size.max(axis=(0, 2, 3))
            self._channels = channels if self._channels is None else np.maximum(self._channels, channels)

    def values(self) -> Values:
        """The statistics of all arrays added."""
        found = np.percentile(np.concatenate(self._sample), _PERCENTILES)
        spread = 1.0
        if self._channels is not None and (middle := float(np.median(self._channels))):
            spread = float(self._channels.max()) / middle
        return Values(self._low, self._high, dict(zip(_PERCENTILES, map(float, found))), spread)


class Saturation:
    """The share of a tensor's values that its range clips, summed over images."""

    def __init__(self, limits: QuantParams) -> None:
        # Half a scale beyond the last quantised value is still rounded to it, which is no clipping.
        half = limits.scale / 2
        self._low, self._high = limits.lowest - half, limits.highest + half
        self._outside, self._all = 0, 0

    def add(self, value: np.ndarray) -> None:
        """Add an array."""
        self._outside += int(((value < self._low) | (value > self._high)).sum())
        self._all += value.size

    @property
    def share(self) -> float:
        """The share, 0 to 1."""
        return self._outside / self._all if self._all else 0.0
