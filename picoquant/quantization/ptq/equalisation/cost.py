"""The factors of a tensor's channels for which rounding to INT8 costs least.

A tensor's channel `c` is divided by `f[c]`, and the weights that multiply it next are multiplied by it. One scale
holds all channels, so an error of the tensor, in the channel's own unit, is `f[c]` times as large as the scale; and
each output channel of the weights has a scale of its own, which the largest `weight * f` determines, or all of a weight
one. With one, the weights before the tensor count, too, whose rows are divided by `f[c]`. All kinds of
rounding error, of `scale^2 / 12`, are weighted with what they cost (`sensitivity.py`). In the logarithm of the
factors the sum is convex, as a sum of exponentials and of maxima of them, so descent from anywhere finds its
minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

QUANT_MAX = 127
_LARGEST_RATIO = 1e4  # of two channels' factors


@dataclass(frozen=True)
class OneScale:
    """Channels that one scale holds.

    Attributes:
        channels: `[K]`, which factor each has, from 1; 0: none.
        reach: `[K]`, absmax of each.
        cost: `[K]`, what an error of every value costs, per unit squared.
    """

    channels: np.ndarray
    reach: np.ndarray
    cost: np.ndarray


@dataclass(frozen=True)
class Weights:
    """The weights of a convolution, with a scale for each output channel, or one for all.

    Attributes:
        channels: `[O, I]`, which factor the input has, from 1; 0: none.
        reach: `[O, I]`, absmax of each.
        cost: `[O, I]`, what an error of every weight costs, per unit squared.
    """

    channels: np.ndarray
    reach: np.ndarray
    cost: np.ndarray

    @cached_property
    def inputs(self) -> np.ndarray | None:
        """`[I]`, which factor the input of every output channel has; None where that differs between them."""
        same = len(self.channels) > 1 and (self.channels == self.channels[0]).all()
        return self.channels[0] if same else None

    def with_one_scale(self) -> Weights:
        """The same with one scale for all: one output channel."""
        return Weights(*(one.reshape(1, -1) for one in (self.channels, self.reach, self.cost)))


def rounding_costs(reach: np.ndarray | float, cost: np.ndarray) -> np.ndarray:
    """What rounding each channel costs, `[C]`.

    Args:
        reach: how far each one's scale reaches, or the one of all.
        cost: of an error of every value, per unit squared, `[C]`.
    """
    return (reach / QUANT_MAX) ** 2 / 12 * cost


@dataclass(frozen=True)
class Descent:
    """How the cheapest factors are looked for.

    Attributes:
        steps: how many.
        first: of the logarithm of a factor, in the first one; they shrink to 0.
    """

    steps: int
    first: float


def best_factors(
    count: int, tensors: Sequence[OneScale], weights: Sequence[Weights], descent: Descent
) -> np.ndarray:
    """The cheapest factors, `[count]`, above 0.

    Args:
        count: number of channels with a factor.
        tensors, weights: all that is rounded and depends on the factors.
        descent: how far and how finely to look, from factors of 1 on.
    """
    logarithm = np.zeros(count)
    mean, square = np.zeros(count), np.zeros(count)
    lowest, gradient = _cost(logarithm, tensors, weights)
    best = logarithm
    for step in range(descent.steps):  # Adam: https://arxiv.org/abs/1412.6980
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
        ahead = (mean / (1 - 0.9 ** (step + 1))) / (np.sqrt(square / (1 - 0.99 ** (step + 1))) + 1e-9)
        logarithm = logarithm - descent.first * (1 - step / descent.steps) * ahead
        logarithm = np.maximum(logarithm, logarithm.max() - np.log(_LARGEST_RATIO))
        cost, gradient = _cost(logarithm, tensors, weights)
        if cost < lowest:
            best, lowest = logarithm, cost
    return np.exp(best)


def cost_of(factor: np.ndarray, tensors: Sequence[OneScale], weights: Sequence[Weights]) -> float:
    """What rounding costs with factors, `[count]`."""
    return _cost(np.log(factor), tensors, weights)[0]


def _cost(
    logarithm: np.ndarray, tensors: Sequence[OneScale], weights: Sequence[Weights]
) -> tuple[float, np.ndarray]:
    """The cost, and the gradient of its logarithm."""
    factor = np.concatenate([[1.0], np.exp(logarithm)])
    gradient = np.zeros_like(factor)
    total = 0.0
    unit = 1 / QUANT_MAX**2 / 12
    for one in tensors:
        own = factor[one.channels]
        reach = one.reach / own
        largest = int(reach.argmax())
        parts = unit * reach[largest] ** 2 * one.cost * own**2
        total += parts.sum()
        gradient += np.bincount(one.channels, 2 * parts, len(factor))
        gradient[one.channels[largest]] -= 2 * parts.sum()
    for one in weights:
        inputs = one.channels if one.inputs is None else one.inputs
        own = factor[inputs]
        reach = one.reach * own
        rows = np.arange(len(reach))
        largest = reach.argmax(axis=1)
        squares = unit * reach[rows, largest] ** 2
        if one.inputs is None:
            parts = squares[:, None] * one.cost / own**2
            of_rows, of_inputs, at = parts.sum(axis=1), parts.reshape(-1), inputs[rows, largest]
        else:
            of_rows, of_inputs = squares * (one.cost @ own**-2.0), squares @ one.cost / own**2
            at = inputs[largest]
        total += of_rows.sum()
        gradient -= np.bincount(inputs.reshape(-1), 2 * of_inputs, len(factor))
        gradient += np.bincount(at, 2 * of_rows, len(factor))
    return float(total), gradient[1:] / max(total, 1e-300)
