"""Activation ranges as moving averages of each batch's absmax: PaddleSlim's default, nothing is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle

from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.engine.tracing.kernels import fake_quantise, fake_quantise_following
from picoquant.quantization.qat.learned_ranges.strategy import ActivationRange

# PaddleSlim's start of a moving average: the range, and the weight and weighted sum of what went into it.
_START = {"scale": 0.001, "state": 1.0, "accum": 1.0}


class Average:
    """A moving average of one activation's absmax.

    Args:
        name: of the activation.
        moving_rate: decay, 0 to 1.
    """

    def __init__(self, name: str, moving_rate: float) -> None:
        self.moving_rate = moving_rate
        self.stored = {f"{name}@{part}": paddle.full([1], value) for part, value in _START.items()}

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        """Absmax, weight and weighted sum of what went into it, `[1]` each."""
        absmax, weight, total = self.stored.values()
        return absmax, weight, total

    @property
    def absmax(self) -> Any:
        """The average, `[1]`."""
        return self.parts[0]

    def add(self, absmax: float) -> None:
        """Add the absmax of a batch."""
        rate = np.float32(self.moving_rate)
        _, weight, total = (one.numpy() for one in self.parts)
        weight, total = rate * weight + np.float32(1), rate * total + np.float32(absmax)
        self._set(total / weight, weight, total)

    def initialise(self, absmax: float) -> None:
        """Set the average to a value, as if very many batches with that absmax had been seen.

        PaddleSlim starts as if one batch with the range 1 had been seen, so after one step a range is about half of
        what it should be and after 20 still 1 % off; values above are clipped, and a short training is spent on that.
        """
        weight = 1.0 / (1.0 - self.moving_rate)  # of infinitely many batches: 1 + r + r^2 + ...
        self._set(absmax, weight, absmax * weight)

    def _set(self, absmax: Any, weight: Any, total: Any) -> None:
        for tensor, value in zip(self.parts, (absmax, weight, total)):
            tensor.set_value(np.asarray(value, np.float32).reshape(1))


class MovingAverage:
    """The range follows the data with a decay of `QuantAware.moving_rate`."""

    traceable = True

    def range_of(
        self, name: str, settings: QuantAwareSettings, non_negative: bool, shape: Sequence[int]
    ) -> ActivationRange:
        """The range of one activation; see `RangeStrategy`."""
        return MovingAverageRange(name, settings, non_negative)

    def optimizer(self, parameters: Sequence[Any]) -> None:
        """None: nothing is learned."""


class MovingAverageRange:
    """One activation's range; see `ActivationRange`."""

    def __init__(self, name: str, settings: QuantAwareSettings, non_negative: bool = False) -> None:
        self._bits, self._non_negative = settings.activation_bits, non_negative
        self.average = Average(name, settings.moving_rate)
        self.stored, self.learned = self.average.stored, ()
        self.initialise = self.average.initialise

    def __call__(self, value: Any, following: bool) -> Any:
        """See `ActivationRange`."""
        average = self.average
        if not following:
            return fake_quantise(value, average.absmax, self._bits)
        rate = average.moving_rate
        return fake_quantise_following(value, average.parts, self._bits, rate, self._non_negative)
