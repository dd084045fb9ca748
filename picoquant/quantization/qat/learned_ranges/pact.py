"""PACT: an activation clipped to a range that is learnt (https://arxiv.org/abs/1805.06085).

PaddleSlim clips with `x - relu(x - u) + relu(-u - x)`, seven operators over the whole activation. Here nothing
is clipped before quantisation: the quantiser clips anyway, at the moving average of what PACT would let
through, `min(max |x|, u)`, which is never above what the clipped activation gives. The gradients are those of
PaddleSlim's operators, see `range_gradients`.

One difference from PaddleSlim 2.6: there, of the convolutions that an activation feeds, the first one found (in
an order that changes from run to run) makes its weight gradient from the clipped activation before rounding,
the others from the rounded one. Here all use the rounded one, which is what the convolutions computed on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from picoquant.paddle_program.static import Inserter, write_variable

# PaddleSlim's values (`paddleslim/quant/quanter.py`, `pact` and `get_pact_optimizer`).
START = 20.0
DECAY = 1e-4
RATE = 1e-4
MOMENTUM = 0.9
_SUFFIX = "_pact"
AVERAGE = "moving_average_abs_max_scale"


def limit_name(variable: str) -> str:
    """Name of the learnt limit of a variable."""
    return f"{variable}{_SUFFIX}"


def is_limit(name: str) -> bool:
    """Whether a parameter is a limit of PACT."""
    return name.endswith(_SUFFIX)


def insert_pact_average(
    inserter: Inserter, scope: Any, source: Any, average: Mapping[str, Any], moving_rate: float
) -> None:
    """Add the moving average of `min(max |x|, u)`, with `u` a parameter of the program.

    The parameter's start value is set by the startup program of the current program guard.

    Args:
        inserter: where the operators go.
        scope: gets what the operators keep.
        source: the activation `x`; a network's input gets a gradient by this, which `u` needs.
        average: variables `scale`, `state` and `accum` of the moving average.
        moving_rate: its decay.
    """
    source.stop_gradient = False
    limit = paddle.create_parameter(
        shape=[1],
        dtype="float32",
        attr=paddle.ParamAttr(
            name=limit_name(source.name),
            initializer=paddle.nn.initializer.Constant(START),
            regularizer=paddle.regularizer.L2Decay(DECAY),
        ),
    )
    # With the rate 0 the average is the newest value, and what was there before does not matter. All three are
    # stored variables because the operator does not make its results.
    names = (f"{limit.name}.{part}" for part in ("largest", "state", "accum"))
    largest, *kept = (inserter.variable(name, limit, persistable=True) for name in names)
    for variable in (largest, *kept):
        write_variable(scope, variable.name, np.zeros(1, np.float32))
    capped = inserter.variable(f"{limit.name}.capped", limit)
    _average(inserter, source, largest, kept, 0.0)
    inserter.operator("elementwise_min", {"X": largest, "Y": limit}, {"Out": capped}, {"axis": -1})
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


def limit_optimizer() -> Any:
    """The optimiser of the limits: their own, as in PaddleSlim."""
    return paddle.optimizer.Momentum(RATE, MOMENTUM)
