"""What the processes tell each other of a batch norm: arrays of one value a channel, in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from picoquant.errors import ConfigError


class Processes(Protocol):
    """What tells the processes each other's arrays; `utils.process_group.Group` is one."""

    def rows(self, values: np.ndarray) -> np.ndarray:
        """The float64 arrays `[n]` of all processes, `[processes, n]`."""

    def fail(self, error: Exception) -> None:
        """Keep an error that cannot be raised where it occurs."""


class Joint(NamedTuple):
    """Statistics of the images of all processes.

    Attributes:
        mean: `[C]` float64.
        variance: `[C]` float64, of all values, not corrected for their number.
    """

    mean: np.ndarray
    variance: np.ndarray


class Own(NamedTuple):
    """What a process knows of a batch norm by itself.

    Attributes:
        mean, variance: `[C]`, of its values, not corrected for their number.
        count: how many values each channel has here; the processes' may differ.
    """

    mean: np.ndarray
    variance: np.ndarray
    count: int


class Sides(NamedTuple):
    """What the gradient of a normalised value loses by way of mean and variance.

    As sums over a process's values, or as means over those of all.

    Attributes:
        along: `[C]`, of the gradient times the normalised value, which is the scale's gradient.
        level: `[C]`, of the gradient, which is the shift's.
        count: how many values each channel has.
    """

    along: np.ndarray
    level: np.ndarray
    count: int


def joint_statistics(group: Processes, norms: Sequence[Own]) -> list[Joint]:
    """Mean and variance of all values of some batch norms from those of each process, told in one message.

    Every process computes them of the same numbers in the same order, so all have the same bits (Chan, Golub and
    LeVeque 1979).

    Args:
        group: all processes.
        norms: this process's.
    """
    told = group.rows(_message([part.mean, part.variance, [part.count]] for part in norms))
    found, begin = [], 0
    for part in norms:
        size = len(part.mean)
        means, variances = told[:, begin : begin + size], told[:, begin + size : begin + 2 * size]
        counts = told[:, begin + 2 * size, None]
        begin += 2 * size + 1
        shares = counts / counts.sum()
        mean = (shares * means).sum(0)
        found.append(Joint(mean, (shares * (variances + (means - mean) ** 2)).sum(0)))
    return found


def joint_gradients(group: Processes, norms: Sequence[Sides]) -> list[Sides]:
    """Means over the values of all processes, in float64, from each process's sums, told in one message.

    Args:
        group: all processes.
        norms: this process's sums, of some batch norms.
    """
    total = group.rows(_message([part.along, part.level, [part.count]] for part in norms)).sum(0)
    found, begin = [], 0
    for part in norms:
        size = len(part.along)
        along, level = total[begin : begin + size], total[begin + size : begin + 2 * size]
        count = total[begin + 2 * size]
        begin += 2 * size + 1
        found.append(Sides(along / count, level / count, int(count)))
    return found


def _message(norms: Iterable[Sequence[Any]]) -> np.ndarray:
    return np.concatenate([one for norm in norms for one in norm], dtype=np.float64)


def values_a_channel(shape: Sequence[int]) -> int:
    """Of a tensor `[N, C, H, W]`.

    Raises: `ConfigError` for a single one, of which Paddle's kernel finds no statistics.
    """
    count = int(shape[0] * shape[2] * shape[3])
    if count == 1:
        raise ConfigError(
            "norm_type: sync_bn: a batch norm has a single value a channel in one process: give each process two "
            "images or more (TrainReader.batch_size), or a larger input"
        )
    return count
