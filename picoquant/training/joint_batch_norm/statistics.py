"""What the processes tell each other of a batch norm: arrays of one value a channel, in float64."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np


class Sums(Protocol):
    """What adds arrays of all processes; `utils.process_group.Group` is one.

    Attributes:
        rank: this process's number, from 0.
        world: number of processes.
    """

    rank: int
    world: int

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The elementwise sum of a float64 array over all processes."""

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


def joint_statistics(group: Sums, mean: np.ndarray, variance: np.ndarray, count: int) -> Joint:
    """Mean and variance of all values from those of each process (Chan, Golub and LeVeque 1979).

    Every process computes them of the same numbers in the same order, so all have the same bits.

    Args:
        group: all processes.
        mean, variance: `[C]` of this process's values.
        count: how many values each channel has here; the processes' may differ.
    """
    told = np.zeros((group.world, 2 * len(mean) + 1))
    told[group.rank] = [*mean, *variance, count]
    told = group.sum(told)
    means, variances, counts = told[:, : len(mean)], told[:, len(mean) : -1], told[:, -1:]
    shares = counts / counts.sum()
    joint = (shares * means).sum(0)
    return Joint(joint, (shares * (variances + (means - joint) ** 2)).sum(0))


def joint_gradients(
    group: Sums, of_scale: np.ndarray, of_bias: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What the gradient of a normalised value loses by way of mean and variance.

    Args:
        group: all processes.
        of_scale: `[C]`, the sum over this process's values of the gradient times the normalised value.
        of_bias: `[C]`, the sum of the gradient.
        count: how many values each channel has here.

    Returns: both as means over the values of all processes, `[C]` float64.
    """
    total = group.sum(np.concatenate([of_scale, of_bias, [count]]).astype(np.float64))
    size = len(of_scale)
    return total[:size] / total[-1], total[size:-1] / total[-1]
