"""Activation ranges that stay where calibration has put them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import paddle
from paddle.autograd import PyLayer

from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.engine.tracing.kernels import (
    fake_quantise,
    fake_quantise_clipped,
    gradient_within,
)
from picoquant.quantization.qat.learned_ranges.strategy import ActivationRange
from picoquant.utils.paddle_version.differences import clip_passes_gradients_at_its_bounds


class Levels(NamedTuple):
    """Values that a tensor is rounded to: the whole numbers of steps from `low` to `high`, 0 among them."""

    low: float
    high: float
    step: float


_NEXT = 2.0**-21  # of a float32: a few of its last bit


class Fixed:
    """Nothing is learned, nothing follows the data.

    Args:
        zero_points: of the activations that are not symmetric.
    """

    traceable = True

    def __init__(self, zero_points: Mapping[str, int] | None = None) -> None:
        self._zero_points = zero_points or {}

    def range_of(
        self, name: str, settings: QuantAwareSettings, non_negative: bool, shape: Sequence[int]
    ) -> ActivationRange:
        """The range of one activation; see `RangeStrategy`."""
        if name in self._zero_points:
            return FixedRangeWithZeroPoint(name, settings.activation_bits, self._zero_points[name])
        return FixedRange(name, settings.activation_bits)

    def optimizer(self, parameters: Sequence[Any]) -> None:
        """None: nothing is learned."""


class FixedRange:
    """One activation's range; see `ActivationRange`."""

    def __init__(self, name: str, bits: int) -> None:
        self._bits, self._name = bits, f"{name}@scale"
        self.stored, self.learned = {self._name: paddle.ones([1])}, ()

    def __call__(self, value: Any, following: bool) -> Any:
        """See `ActivationRange`."""
        absmax = self.stored[self._name]
        if not paddle.in_dynamic_mode():
            return fake_quantise_clipped(value, absmax, self._bits)
        if value.stop_gradient or not paddle.is_grad_enabled():
            return fake_quantise(value, absmax, self._bits)
        return _Rounded.apply(value, absmax, self._bits)

    def initialise(self, absmax: float) -> None:
        """See `ActivationRange`."""
        self.stored[self._name].set_value(paddle.full([1], absmax))

    def levels(self) -> Levels:
        """What it rounds to."""
        absmax = self.stored[self._name].item()
        return Levels(-absmax, absmax, absmax / (2 ** (self._bits - 1) - 1))


class FixedRangeWithZeroPoint(FixedRange):
    """One activation's range; its quantised values are not as many above 0 as below.

    They are among those of a symmetric range with twice as many, by which Paddle's kernel rounds what was clipped.

    Args:
        name: of the activation.
        bits: of a quantised value.
        zero_point: the integer, signed, that stands for 0.
    """

    def __init__(self, name: str, bits: int, zero_point: int) -> None:
        super().__init__(name, bits)
        half = 2 ** (bits - 1)
        self._integers = (-half - zero_point, half - 1 - zero_point)
        self._ends = [(end - zero_point) / (half - 1) for end in (-half, half - 1)]
        if clip_passes_gradients_at_its_bounds():  # rounded, values next to the ends are the ends
            self._ends = [
                end * (1 - _NEXT) if end else inside * _NEXT for end, inside in zip(self._ends, (1, -1))
            ]
        self._top = (2 * half - 1) / (half - 1)

    def __call__(self, value: Any, following: bool) -> Any:
        """See `ActivationRange`."""
        stored = self.stored[self._name]
        low, high = (stored * end for end in self._ends)
        return fake_quantise(paddle.clip(value, low, high), stored * self._top, self._bits + 1)

    def levels(self) -> Levels:
        """See `FixedRange`."""
        step = super().levels().step
        low, high = self._integers
        return Levels(low * step, high * step, step)


class _Rounded(PyLayer):
    """Rounding whose gradient does not pass where the value is clipped."""

    @staticmethod
    def forward(ctx: Any, value: Any, absmax: Any, bits: int) -> Any:
        ctx.save_for_backward(value, absmax)
        return fake_quantise(value, absmax, bits)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[Any, None]:
        value, absmax = ctx.saved_tensor()
        return gradient_within(gradient, value, absmax.item()), None
