"""PACT: an activation clipped to a range that is learnt (https://arxiv.org/abs/1805.06085).

One difference from PaddleSlim 2.6: there, of the convolutions that an activation feeds, the first one found (in
an order that changes from run to run) makes its weight gradient from the clipped activation before rounding,
the others from the rounded one. Here all use the rounded one, which is what the convolutions computed on.
"""

from __future__ import annotations

from typing import Any

import paddle

from picoquant.quantization.programs import Inserter

# PaddleSlim's values (`paddleslim/quant/quanter.py`, `pact` and `get_pact_optimizer`).
START = 20.0
DECAY = 1e-4
RATE = 1e-4
MOMENTUM = 0.9
_SUFFIX = "_pact"


def limit_name(variable: str) -> str:
    """Name of the learnt limit of a variable."""
    return f"{variable}{_SUFFIX}"


def insert_pact(inserter: Inserter, block: Any, source: Any) -> Any:
    """Add `x - relu(x - u) + relu(-u - x)`, `x` clipped to -u … u, with `u` a parameter of the program.

    The parameter's start value is set by the startup program of the current program guard.

    Returns: the clipped variable.
    """
    limit = paddle.create_parameter(
        shape=[1],
        dtype="float32",
        attr=paddle.ParamAttr(
            name=limit_name(source.name),
            initializer=paddle.nn.initializer.Constant(START),
            regularizer=paddle.regularizer.L2Decay(DECAY),
        ),
    )

    def apply(kind: str, name: str, *sources: Any, **attrs: Any) -> Any:
        like = limit if name == "negative" else source
        result = inserter.variable(f"{source.name}{_SUFFIX}.{name}", like)
        inserter.operator(kind, dict(zip("XY", sources)), {"Out": result}, attrs)
        return result

    above = apply("elementwise_sub", "above", source, limit, axis=-1)
    above = apply("relu", "excess", above)
    lower = apply("elementwise_sub", "capped", source, above, axis=-1)
    negative = apply("scale", "negative", limit, scale=-1.0, bias=0.0, bias_after_scale=True)
    below = apply("elementwise_sub", "below", negative, lower, axis=-1)
    below = apply("relu", "deficit", below)
    return apply("elementwise_add", "clipped", lower, below, axis=-1)


def is_limit(name: str) -> bool:
    """Whether a parameter is a limit of PACT."""
    return name.endswith(_SUFFIX)


def limit_optimizer() -> Any:
    """The optimiser of the limits: their own, as in PaddleSlim."""
    return paddle.optimizer.Momentum(RATE, MOMENTUM)
