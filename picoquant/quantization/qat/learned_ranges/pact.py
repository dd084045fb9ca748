"""PACT: an activation clipped to a limit that is learned (https://arxiv.org/abs/1805.06085).

PaddleSlim clips with `x - relu(x - u) + relu(-u - x)`, seven operators over the whole activation. Here nothing
is clipped before quantisation: the quantiser clips anyway, at the moving average of the absmax behind PACT's
clipping, `min(max |x|, u)`, which is never above what the clipped activation has. The gradients are those of
PaddleSlim's operators, see `gradients.py`.

One difference from PaddleSlim 2.6: there, of the convolutions that an activation feeds, the first one found (in
an order that changes from run to run) computes its weight gradient from the clipped activation before rounding,
the others from the rounded one. Here all use the rounded one, which is what the convolutions computed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from picoquant.int8.functions import NEVER_NEGATIVE
from picoquant.int8.operators import QuantizableOperator, quantised_name, scale_name
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.static.programs import Inserter, write_variable
from picoquant.quantization.fake_quant import QuantiserPorts
from picoquant.quantization.qat.learned_ranges.gradients import BackwardInserter, replace_straight_through
from picoquant.quantization.qat.learned_ranges.moving_average import (
    AVERAGE,
    average_variables,
    initialise_average,
)
from picoquant.quantization.qat.learned_ranges.strategy import ParameterGradient

# PaddleSlim's values (`paddleslim/quant/quanter.py`, `pact` and `get_pact_optimizer`).
START = 20.0
DECAY = 1e-4
RATE = 1e-4
MOMENTUM = 0.9
_SUFFIX = "_pact"
_NEXT = 1 + 2.0**-23  # times this, a float is the next larger one or the one after


class Pact:
    """The range is the moving average of each batch's absmax, cut at a learned limit."""

    def insert(
        self, inserter: Inserter, scope: Any, source: Any, settings: QuantAwareSettings
    ) -> QuantiserPorts:
        """Add the limit and the moving average; see `RangeStrategy`."""
        average = average_variables(inserter, scope, source)
        _insert_capped_average(inserter, scope, source, average, settings.moving_rate)
        return QuantiserPorts({"InScale": average["scale"]}, {"OutScale": average["scale"]})

    def is_parameter(self, name: str) -> bool:
        """Whether a name is that of a limit, `<activation>_pact`."""
        return name.endswith(_SUFFIX)

    def add_gradients(
        self, program: Any, operators: Sequence[QuantizableOperator], bits: int
    ) -> list[ParameterGradient]:
        """Add the gradient of each limit; see `RangeStrategy`."""
        return replace_straight_through(program, operators, _limit_gradient)

    def optimizer(self) -> Any:
        """The optimiser of the limits, as in PaddleSlim: Momentum with a rate of its own."""
        return paddle.optimizer.Momentum(RATE, MOMENTUM)

    def initialise(self, scope: Any, name: str, absmax: float, moving_rate: float) -> None:
        """Set the average and the limit; see `RangeStrategy`."""
        initialise_average(scope, name, absmax, moving_rate)
        write_variable(scope, limit_name(name), np.array([absmax], np.float32))


def limit_name(variable: str) -> str:
    """Name of the learned limit of a variable."""
    return f"{variable}{_SUFFIX}"


def _insert_capped_average(
    inserter: Inserter, scope: Any, source: Any, average: Mapping[str, Any], moving_rate: float
) -> None:
    """Add the moving average of `min(max |x|, u)`, with `u` a parameter of the program.

    The parameter's start value is set by the startup program of the current program guard.

    Args:
        inserter: where the operators go.
        scope: receives the variables that the operators keep.
        source: the activation `x`.
        average: variables `scale`, `state` and `accum` of the moving average.
        moving_rate: its decay.
    """
    source.stop_gradient = (
        False  # the limit's gradient needs that of the activation, the network's input included
    )
    limit = paddle.create_parameter(
        shape=[1],
        dtype="float32",
        attr=paddle.ParamAttr(
            name=limit_name(source.name),
            initializer=paddle.nn.initializer.Constant(START),
            regularizer=paddle.regularizer.L2Decay(DECAY),
        ),
    )
    # With the rate 0 the average is the newest value, and the earlier value does not matter. All three are
    # stored variables because the operator does not create its results.
    names = (f"{limit.name}.{part}" for part in ("largest", "state", "accum"))
    absmax, *kept = (inserter.variable(name, limit, persistable=True) for name in names)
    for variable in (absmax, *kept):
        write_variable(scope, variable.name, np.zeros(1, np.float32))
    capped = inserter.variable(f"{limit.name}.capped", limit)
    _average(inserter, source, absmax, kept, 0.0)
    inserter.operator("elementwise_min", {"X": absmax, "Y": limit}, {"Out": capped}, {"axis": -1})
    capped.stop_gradient = True
    _average(inserter, capped, average["scale"], [average["state"], average["accum"]], moving_rate)


def _average(inserter: Inserter, source: Any, scale: Any, kept: list[Any], rate: float) -> None:
    state, accum = kept
    inserter.operator(
        AVERAGE,
        {"X": source, "InState": state, "InAccum": accum},
        {"OutScale": scale, "OutState": state, "OutAccum": accum},
        {"moving_rate": rate, "is_test": False},
    )
    scale.stop_gradient = True


def _limit_gradient(inserter: BackwardInserter, op: Any, name: str) -> ParameterGradient:
    block = op.block
    source, quantised = block.var(name), block.var(quantised_name(name))
    limit = block.var(limit_name(name))
    # PaddleSlim's operators do not clip what lies on the limit; clip_grad would.
    dy, dx = inserter.clipped(op, source, *inserter.bounds(limit, _NEXT))
    cut = inserter.make("elementwise_sub", f"{name}@cut", source, {"X": dy, "Y": dx}, {"axis": -1})
    if _never_negative(block, name):
        total = inserter.total(f"{name}@cut.total", cut)
        return limit, inserter.unsqueeze(f"{limit.name}@GRAD", limit, total)
    inputs = {"X": cut, "Y": quantised}
    signed = inserter.make("elementwise_mul", f"{name}@cut.signed", source, inputs, {"axis": -1})
    total = inserter.total(f"{name}@cut.total", signed)
    inputs = {"X": total, "Y": block.var(scale_name(name))}
    return limit, inserter.make("elementwise_div", f"{limit.name}@GRAD", limit, inputs, {"axis": -1})


def _never_negative(block: Any, name: str) -> bool:
    """Whether a variable is the result of an operator whose results are never negative."""
    makers = [op for op in block.ops if name in op.output_arg_names]
    return bool(makers) and makers[0].type in NEVER_NEGATIVE
