"""LSQ: activation ranges learned by the loss itself (https://arxiv.org/abs/1902.08153).

The paper learns the scale `s` (the difference of two neighbouring quantised values), with `Q` quantised values on
each side of 0 (127 for 8 bits), and multiplies its gradient by `1 / sqrt(N Q)`, `N` the number of an activation's
values for one image. The parameter here is the range `r = Q s`: its gradient is `Q` times as large as that of `s`,
so that SGD, with or without momentum, moves `r` exactly as it would move `Q s`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from picoquant.errors import ConfigError
from picoquant.int8.operators import QuantizableOperator, quantised_name, scale_name
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.static.programs import Inserter, write_variable
from picoquant.quantization.fake_quant import QuantiserPorts
from picoquant.quantization.qat.learned_ranges.gradients import BackwardInserter, replace_straight_through
from picoquant.quantization.qat.learned_ranges.strategy import ParameterGradient

_START = 1.0  # until calibration sets it


@dataclass(frozen=True)
class Lsq:
    """Each activation's range is a parameter of the program, updated by the weights' optimiser.

    Attributes:
        rate: factor of the ranges' gradients; with SGD, the ranges' share of the learning rate.
    """

    rate: float = 1.0

    def insert(
        self, inserter: Inserter, scope: Any, source: Any, settings: QuantAwareSettings
    ) -> QuantiserPorts:
        """Add the range as a parameter; see `RangeStrategy`."""
        scale = _range_parameter(source)
        # The quantiser must not write a parameter: its result goes nowhere.
        unchanged = inserter.variable(f"{source.name}@unchanged", source, shape=[1])
        return QuantiserPorts({"InScale": scale}, {"OutScale": unchanged})

    def is_parameter(self, name: str) -> bool:
        """Whether a name is that of a range, `<activation>@scale`."""
        return name.endswith(scale_name(""))

    def add_gradients(
        self, program: Any, operators: Sequence[QuantizableOperator], bits: int
    ) -> list[ParameterGradient]:
        """Add the paper's gradient of each range; see `RangeStrategy`."""

        def gradient_of(inserter: BackwardInserter, op: Any, name: str) -> ParameterGradient:
            return _range_gradient(inserter, op, name, self.rate, bits)

        return replace_straight_through(program, operators, gradient_of)

    def optimizer(self) -> None:
        """None: the weights' optimiser updates the ranges."""

    def initialise(self, scope: Any, name: str, absmax: float, moving_rate: float) -> None:
        """Set the parameter; see `RangeStrategy`."""
        write_variable(scope, scale_name(name), np.array([absmax], np.float32))


def _range_parameter(source: Any) -> Any:
    """The range of an activation as a parameter `[1]`, without weight decay."""
    source.stop_gradient = (
        False  # the range's gradient needs that of the activation, the network's input included
    )
    return paddle.create_parameter(
        shape=[1],
        dtype="float32",
        attr=paddle.ParamAttr(
            name=scale_name(source.name),
            initializer=paddle.nn.initializer.Constant(_START),
            regularizer=paddle.regularizer.L2Decay(0.0),
        ),
    )


def gradient_factor(source: Any, bits: int) -> float:
    """`Q^2 / sqrt(N Q)`: what `sum(dy y - dx x) / r` is multiplied by to be the gradient of `r`.

    Args:
        source: the activation's variable, any number of images first.
        bits: of a quantised value.

    Raises: `ConfigError` when the activation's size is not fixed.
    """
    values = source.shape[1:]
    if any(size < 1 for size in values):
        raise ConfigError(
            f"Quantize.learned_ranges: lsq needs a fixed input size, but {source.name} has the shape "
            f"{list(source.shape)}: export the model again with one"
        )
    quant_max = 2 ** (bits - 1) - 1
    return quant_max**2 / math.sqrt(math.prod(values) * quant_max)


def _range_gradient(
    inserter: BackwardInserter, op: Any, name: str, rate: float, bits: int
) -> ParameterGradient:
    block = op.block
    source, quantised = block.var(name), block.var(quantised_name(name))
    limit = block.var(scale_name(name))
    dy, dx = inserter.clipped(op, source, *inserter.bounds(limit, 1.0))
    axis = {"axis": -1}
    outer = inserter.make("elementwise_mul", f"{name}@outer", source, {"X": dy, "Y": quantised}, axis)
    inner = inserter.make("elementwise_mul", f"{name}@inner", source, {"X": dx, "Y": source}, axis)
    rest = inserter.make("elementwise_sub", f"{name}@rest", source, {"X": outer, "Y": inner}, axis)
    total = inserter.total(f"{name}@rest.total", rest)
    attrs = {"scale": rate * gradient_factor(source, bits), "bias": 0.0, "bias_after_scale": True}
    scaled = inserter.make("scale", f"{name}@rest.scaled", total, {"X": total}, attrs)
    inputs = {"X": scaled, "Y": limit}
    return limit, inserter.make("elementwise_div", f"{limit.name}@GRAD", limit, inputs, axis)
