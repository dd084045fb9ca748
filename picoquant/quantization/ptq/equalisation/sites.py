"""Where the channels of a network may be changed: results of convolutions, with the activation behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.quantization.ptq.equalisation.path import (
    PASSING_ACTIVATIONS,
    stored_bias,
    use_count,
)

HARD_SWISH = "hard_swish"
GATE = 6.0  # the largest value of what it multiplies its input with


@dataclass(frozen=True)
class Site:
    """The result of a convolution with a bias.

    Attributes:
        raw: the convolution's result.
        name: that of its bias addition.
        result: that of the activation behind; `name` without one.
        activation: type of that; empty without one.
    """

    raw: str
    name: str
    result: str
    activation: str


def sites_of(model: ProgramModel, more: Sequence[str] = ()) -> list[Site]:
    """The sites of a network whose batch-norms are folded, in its order.

    Args:
        model: the network.
        more: activations beside hard-swish and those that a factor passes; results with any other are left out.
    """
    activations = (*PASSING_ACTIVATIONS, HARD_SWISH, *more)
    sites = []
    for add in [op for op in model.operators if stored_bias(model, op)]:
        raw = add.input("X")[0]
        conv = model.producer(raw)
        if conv is None or conv.type not in CONVOLUTIONS or use_count(model, raw) != 1:
            continue
        name = add.output("Out")[0]
        users = model.users(name)
        if name in model.outputs:
            continue
        if len(users) == 1 and users[0].type in activations:
            sites.append(Site(raw, name, users[0].output("Out")[0], users[0].type))
        elif all(user.type != "relu6" for user in users):
            sites.append(Site(raw, name, name, ""))
    return sites
