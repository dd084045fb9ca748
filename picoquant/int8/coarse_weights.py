"""Weights that one scale holds so coarsely that next to nothing is left of most channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picoquant.int8.network import Int8Network
from picoquant.paddle_program.layers import CONVOLUTIONS

_LEAST = 4  # levels of 127 that half the channels must reach


@dataclass(frozen=True)
class CoarseWeight:
    """A convolution's weight.

    Attributes:
        name: of the weight.
        channel: the result's channel whose weight has the 127 levels.
        levels: the largest number of levels of the middle one of all channels.
    """

    name: str
    channel: int
    levels: int


def coarse_weights(network: Int8Network) -> list[CoarseWeight]:
    """The weights of a network with one scale each, half of whose channels have fewer than 4 of 127 levels.

    Channels without any weight do not count: they were taken out, or pruned.
    """
    found = []
    for operator in network.operators:
        if operator.op_type not in CONVOLUTIONS or operator.params.axis >= 0:
            continue
        integers = np.abs(operator.integers.astype(np.int32)).reshape(len(operator.integers), -1).max(axis=1)
        floats = network.float_params.get(operator.weight)
        used = integers > 0 if floats is None else floats.reshape(len(floats), -1).any(axis=1)
        if used.any() and np.median(integers[used]) < _LEAST:
            channel, levels = int(integers.argmax()), int(np.median(integers[used]))
            found.append(CoarseWeight(operator.weight, channel, levels))
    return found
