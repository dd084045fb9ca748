"""Where the channels of a network may be changed: results of convolutions, with the activation behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.quantization.ptq.equalisation.path import (
    PASSING_ACTIVATIONS,
    producer_of,
    stored_bias,
    users_of,
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


def sites_of(block: Any, more: Sequence[str] = ()) -> list[Site]:
    """The sites of a network whose batch-norms are folded, in its order.

    Args:
        block: of the network.
        more: activations beside hard-swish and those that a factor passes; results with any other are left out.
    """
    activations = (*PASSING_ACTIVATIONS, HARD_SWISH, *more)
    sites = []
    for add in [op for op in block.ops if stored_bias(block, op)]:
        conv = producer_of(block, add.input("X")[0])
        if conv is None or conv.type not in CONVOLUTIONS or len(users_of(block, add.input("X")[0])) != 1:
            continue
        name = add.output("Out")[0]
        users = users_of(block, name)
        if len(users) == 1 and users[0].type in activations:
            sites.append(Site(add.input("X")[0], name, users[0].output("Out")[0], users[0].type))
        elif all(user.type not in ("relu6", "fetch") for user in users):
            sites.append(Site(add.input("X")[0], name, name, ""))
    return sites
