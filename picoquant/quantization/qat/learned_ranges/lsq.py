"""LSQ: activation ranges learned by the loss itself (https://arxiv.org/abs/1902.08153).

The paper learns the scale `s` (the difference of two neighbouring quantised values), with `Q` quantised values on
each side of 0 (127 for 8 bits), and multiplies its gradient by `1 / sqrt(N Q)`, `N` the number of an activation's
values for one image. The parameter here is the range `r = Q s`: its gradient is `Q` times as large as that of `s`,
so that SGD, with or without momentum, moves `r` exactly as it would move `Q s`.

With `y` the quantised and `x` the plain activation, `dy` and `dx` their gradients, the gradient of `s` is `Q` or `-Q`
outside of the range, `round(x / s) - x / s` within, times `dy`: `sum(dy y - dx x) / s`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import paddle
from paddle.autograd import PyLayer

from picoquant.errors import ConfigError
from picoquant.int8.operators import scale_name
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.engine.parameters import named_parameter
from picoquant.quantization.engine.tracing.kernels import fake_quantise, gradient_within
from picoquant.quantization.qat.learned_ranges.strategy import ActivationRange

_START = 1.0  # until calibration sets it


@dataclass(frozen=True)
class Lsq:
    """Each activation's range is a parameter, updated by the weights' optimiser.

    Attributes:
        rate: factor of the ranges' gradients; with SGD, the ranges' share of the learning rate.
    """

    rate: float = 1.0
    traceable: ClassVar[bool] = False

    def range_of(
        self, name: str, settings: QuantAwareSettings, non_negative: bool, shape: Sequence[int]
    ) -> ActivationRange:
        """The range of one activation; see `RangeStrategy`."""
        return LsqRange(name, settings.activation_bits, self.rate * gradient_factor(name, shape, settings))

    def optimizer(self, parameters: Sequence[Any]) -> None:
        """None: the weights' optimiser updates the ranges."""


def gradient_factor(name: str, shape: Sequence[int], settings: QuantAwareSettings) -> float:
    """`Q^2 / sqrt(N Q)`: what `sum(dy y - dx x) / r` is multiplied by to be the gradient of `r`.

    Args:
        name: of the activation.
        shape: its shape, any number of images first.
        settings: number of bits.

    Raises: `ConfigError` when the activation's size is not fixed.
    """
    values = shape[1:]
    if any(size < 1 for size in values):
        raise ConfigError(
            f"Quantize.learned_ranges: lsq needs a fixed input size, but {name} has the shape "
            f"{list(shape)}: export the model again with one"
        )
    quant_max = 2 ** (settings.activation_bits - 1) - 1
    return quant_max**2 / math.sqrt(math.prod(values) * quant_max)


class LsqRange:
    """One activation's range; see `ActivationRange`."""

    def __init__(self, name: str, bits: int, factor: float) -> None:
        self._bits, self._factor = bits, factor
        self._range = named_parameter(scale_name(name), np.float32([_START]), 0.0)
        self.stored, self.learned = {scale_name(name): self._range}, (self._range,)

    def __call__(self, value: Any, following: bool) -> Any:
        """See `ActivationRange`."""
        if not paddle.is_grad_enabled():
            return fake_quantise(value, self._range, self._bits)
        return _Rounded.apply(value, self._range, self._bits, self._factor)

    def initialise(self, absmax: float) -> None:
        """See `ActivationRange`."""
        self._range.set_value(paddle.full([1], absmax))


class _Rounded(PyLayer):
    """Rounding whose range has a gradient."""

    @staticmethod
    def forward(ctx: Any, value: Any, absmax: Any, bits: int, factor: float) -> Any:
        result = fake_quantise(value, absmax, bits)
        ctx.save_for_backward(value, result, absmax)
        ctx.factor, ctx.passes = factor, not value.stop_gradient
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> tuple[Any, Any]:
        value, result, absmax = ctx.saved_tensor()
        passed = gradient_within(gradient, value, absmax.item())
        total = (gradient * result - passed * value).sum()
        return passed if ctx.passes else None, (total * ctx.factor / absmax).reshape([1])
