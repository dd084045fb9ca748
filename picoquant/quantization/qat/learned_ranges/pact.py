"""PACT: an activation clipped to a limit that is learned (https://arxiv.org/abs/1805.06085).

PaddleSlim clips with `x - relu(x - u) + relu(-u - x)`, seven operators over the whole activation. Here nothing
is clipped before quantisation: the quantiser clips anyway, at the moving average of the absmax behind PACT's
clipping, `min(max |x|, u)`, which is never above what the clipped activation has. The gradients are those of
PaddleSlim's operators: what lies beyond the limit passes nothing on to the activation, and its sum, with the sign of
the value, is the limit's gradient.

One difference from PaddleSlim 2.6: there, of the convolutions that an activation feeds, the first one found (in
an order that changes from run to run) computes its weight gradient from the clipped activation before rounding,
the others from the rounded one. Here all use the rounded one, which is what the convolutions computed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.engine.parameters import named_parameter
from picoquant.quantization.engine.tracing.kernels import absmax_of, fake_quantise, gradient_within
from picoquant.quantization.qat.learned_ranges.moving_average import Average
from picoquant.quantization.qat.learned_ranges.strategy import ActivationRange

# PaddleSlim's values (`paddleslim/quant/quanter.py`, `pact` and `get_pact_optimizer`).
START = 20.0
DECAY = 1e-4
RATE = 1e-4
MOMENTUM = 0.9
_NEXT = 1 + 2.0**-23  # times this, a float is the next larger one or the one after


class Pact:
    """The range is the moving average of each batch's absmax, cut at a learned limit."""

    traceable = False

    def range_of(
        self, name: str, settings: QuantAwareSettings, non_negative: bool, shape: Sequence[int]
    ) -> ActivationRange:
        """The range of one activation; see `RangeStrategy`."""
        return PactRange(name, settings, non_negative)

    def optimizer(self, parameters: Sequence[Any]) -> Any:
        """The optimiser of the limits, as in PaddleSlim: Momentum with a rate of its own."""
        return paddle.optimizer.Momentum(RATE, MOMENTUM, parameters=list(parameters))


def limit_name(variable: str) -> str:
    """Name of the learned limit of a variable."""
    return f"{variable}_pact"


class PactRange:
    """One activation's range; see `ActivationRange`."""

    def __init__(self, name: str, settings: QuantAwareSettings, non_negative: bool) -> None:
        self._bits, self._non_negative = settings.activation_bits, non_negative
        self._average = Average(name, settings.moving_rate)
        self._limit = named_parameter(limit_name(name), np.float32([START]), DECAY)
        self.stored = {**self._average.stored, limit_name(name): self._limit}
        self.learned = (self._limit,)

    def __call__(self, value: Any, following: bool) -> Any:
        """See `ActivationRange`."""
        if not paddle.is_grad_enabled():
            return fake_quantise(value, self._average.absmax, self._bits)
        absmax, limit = absmax_of(value, self._non_negative), self._limit.item()
        if following:
            self._average.add(min(absmax, limit))
        # What lies on the limit is not beyond it, as in PaddleSlim's operators.
        if absmax < limit * _NEXT:
            return _Unclipped.apply(value, self._limit, self._average.absmax, self._bits)
        sign = 1 if self._non_negative else 0
        return _Clipped.apply(value, self._limit, self._average.absmax, self._bits, sign)

    def initialise(self, absmax: float) -> None:
        """See `ActivationRange`."""
        self._average.initialise(absmax)
        self._limit.set_value(paddle.full([1], absmax))


class _Unclipped(PyLayer):
    """Rounding of an activation that lies within its limit, whose gradient is 0 then."""

    @staticmethod
    def forward(ctx: Any, value: Any, limit: Any, absmax: Any, bits: int) -> Any:
        ctx.passes = not value.stop_gradient
        return fake_quantise(value, absmax, bits)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[Any, Any, None]:
        return gradient if ctx.passes else None, paddle.zeros([1]), None


class _Clipped(PyLayer):
    """Rounding of an activation, parts of which lie beyond the limit; `sign` is 1 where only positive ones can."""

    @staticmethod
    def forward(ctx: Any, value: Any, limit: Any, absmax: Any, bits: int, sign: int) -> Any:
        result = fake_quantise(value, absmax, bits)
        ctx.save_for_backward(value, result, limit, absmax)
        ctx.sign, ctx.passes = sign, not value.stop_gradient
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[Any, Any, None]:
        value, result, limit, absmax = ctx.saved_tensor()
        passed = gradient_within(gradient, value, limit.item() * _NEXT)
        cut = gradient - passed
        # Beyond the limit the result is the range or its negative.
        total = cut.sum() if ctx.sign else (cut * result).sum() / absmax
        return passed if ctx.passes else None, total.reshape([1]), None
