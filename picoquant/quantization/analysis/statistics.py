"""What values a tensor has: range, outliers, and how much of it an INT8 range clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picoquant.int8.quant_params import QuantParams

_SAMPLED = 100_000  # values of an image that percentiles are counted on
_PERCENTILES = (99.0, 99.9, 99.99)


@dataclass(frozen=True)
class Values:
    """What was seen of a tensor.

    Attributes:
        low, high: smallest and largest value.
        percentiles: of the absolute values, by percentage.
        channel_spread: largest absolute value over the median of the channels' (`[N, C, H, W]` only, else 1):
            how much of the range is there for few channels.
    """

    low: float
    high: float
    percentiles: dict[float, float]
    channel_spread: float

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high)

    @property
    def outliers(self) -> float:
        """The largest absolute value over the 99.9th percentile; 1: no outliers."""
        usual = self.percentiles[99.9]
        return self.largest / usual if usual else 1.0


class Watch:
    """Collects a tensor's values, an image or a batch at a time."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._sample: list[np.ndarray] = []
        self._channels: np.ndarray | None = None

    def add(self, value: np.ndarray) -> None:
        """Count one more array, the images first."""
        self._low = min(self._low, float(value.min()))
        self._high = max(self._high, float(value.max()))
        size = np.abs(value)
        flat = size.reshape(-1)
        self._sample.append(flat[:: -(-flat.size // _SAMPLED)].copy())
        if value.ndim == 4:
            channels = size.max(axis=(0, 2, 3))
            self._channels = channels if self._channels is None else np.maximum(self._channels, channels)

    def values(self) -> Values:
        """What was seen."""
        found = np.percentile(np.concatenate(self._sample), _PERCENTILES)
        spread = 1.0
        if self._channels is not None and (middle := float(np.median(self._channels))):
            spread = float(self._channels.max()) / middle
        return Values(self._low, self._high, dict(zip(_PERCENTILES, map(float, found))), spread)


class Saturation:
    """The share of a tensor's values that its range clips, added up over images."""

    def __init__(self, limits: QuantParams) -> None:
        # Half a level beyond the last one is still rounded to it, which is no clipping.
        half = limits.scale / 2
        self._low, self._high = limits.lowest - half, limits.highest + half
        self._outside, self._all = 0, 0

    def add(self, value: np.ndarray) -> None:
        """Count one more array."""
        self._outside += int(((value < self._low) | (value > self._high)).sum())
        self._all += value.size

    @property
    def share(self) -> float:
        """0 to 1."""
        return self._outside / self._all if self._all else 0.0
