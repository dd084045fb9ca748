"""LSQ: activation ranges learnt by the loss itself (https://arxiv.org/abs/1902.08153).

The paper learns the step `s` between two levels, with `Q` levels on each side (127 for 8 bits), and scales its
gradient by `1 / sqrt(N Q)`, `N` the number of an activation's values for one image. What is kept here is the
range `r = Q s`: its gradient is `Q` times as large as that of `s`, so that SGD, with or without momentum, moves
`r` just as it would move `Q s`.
"""

from __future__ import annotations

import math
from typing import Any

import paddle

from picoquant.errors import ConfigError

_START = 1.0  # until calibration sets it


def learned_range(source: Any) -> Any:
    """The range of an activation as a parameter, without weight decay.

    Args:
        source: the activation; a network's input gets a gradient by this, which the range needs.
    """
    source.stop_gradient = False
    return paddle.create_parameter(
        shape=[1],
        dtype="float32",
        attr=paddle.ParamAttr(
            name=f"{source.name}@scale",
            initializer=paddle.nn.initializer.Constant(_START),
            regularizer=paddle.regularizer.L2Decay(0.0),
        ),
    )


def gradient_factor(source: Any, bits: int) -> float:
    """`Q^2 / sqrt(N Q)`: what `sum(dy y - dx x) / r` is multiplied by to give the gradient of `r`.

    Args:
        source: the activation, any number of images first.
        bits: of its levels.

    Raises: `ConfigError` when the activation's size is not fixed.
    """
    values = source.shape[1:]
    if any(size < 1 for size in values):
        raise ConfigError(
            f"Quantize.learned_ranges: lsq needs a fixed input size, but {source.name} has the shape "
            f"{list(source.shape)}: export the model again with one"
        )
    levels = 2 ** (bits - 1) - 1
    return levels**2 / math.sqrt(math.prod(values) * levels)
