"""Activation ranges that stay where calibration has put them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle.autograd import PyLayer

from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.engine.kernels import fake_quantise, fake_quantise_clipped, gradient_within
from picoquant.quantization.qat.learned_ranges.strategy import ActivationRange


class Fixed:
    """Nothing is learned, nothing follows the data."""

    traceable = True

    def range_of(
        self, name: str, settings: QuantAwareSettings, non_negative: bool, shape: Sequence[int]
    ) -> ActivationRange:
        """The range of one activation; see `RangeStrategy`."""
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
