"""How the part of zeros grows while a network trains: gradual magnitude pruning (https://arxiv.org/abs/1710.01878).

Source of the steps: PaddleSlim 2.6, dygraph/prune/unstructured_pruner.py (GMPUnstructuredPruner).
"""

from __future__ import annotations

from dataclasses import dataclass

from picoquant.errors import ConfigError
from picoquant.pruning.settings import UnstructuredPrunerSettings


@dataclass(frozen=True)
class Ramp:
    """The part of zeros by number of updates.

    Attributes:
        parts: one after the other; behind them it is `target`.
        period: number of updates with each.
        target: the part in the end.
    """

    parts: tuple[float, ...]
    period: int
    target: float

    @property
    def settled(self) -> int:
        """Number of updates after which the part is `target` and stays that."""
        rising = next((i for i, part in enumerate(self.parts) if part == self.target), len(self.parts))
        return rising * self.period + 1

    def part(self, update: int) -> float:
        """The part of zeros after an update, counted from 0."""
        index = update // self.period
        return self.parts[index] if index < len(self.parts) else self.target


def make_ramp(settings: UnstructuredPrunerSettings, epochs: int, updates_per_epoch: int) -> Ramp:
    """The ramp of a training.

    Args:
        settings: how to prune.
        epochs: of the training.
        updates_per_epoch: number of updates of the weights in each.

    Raises: `ConfigError` where the training has fewer updates than the ramp has steps, or ends before it does.
    """
    if settings.mode != "gmp":
        return Ramp((), 1, settings.ratio)
    name, steps = "UnstructuredPruner", settings.pruning_steps
    updates = settings.pruning_epochs * updates_per_epoch
    period = updates // steps
    if not period:
        raise ConfigError(
            f"{name}.pruning_steps: {steps} steps in pruning_epochs: {settings.pruning_epochs}, which are {updates} "
            f"updates of the weights; set it to at most {updates}"
        )
    stable = int(settings.stable_epochs * updates_per_epoch / updates * steps)
    rise = settings.ratio - settings.initial_ratio
    rising = [((i / steps - 1) ** 3 + 1) * rise + settings.initial_ratio for i in range(steps)]
    ramp = Ramp((0.0,) * stable + tuple(rising), period, settings.ratio)
    if ramp.settled > epochs * updates_per_epoch:
        needed = settings.stable_epochs + settings.pruning_epochs
        raise ConfigError(
            f"{name}: the ramp, stable_epochs and pruning_epochs, takes {needed} epochs, and epoch is {epochs}: the "
            f"network would not reach ratio {settings.ratio:g}; set epoch to {needed + 1} or more, or pruning_epochs "
            "to less"
        )
    return ramp
