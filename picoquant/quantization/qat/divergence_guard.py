"""The divergence guard of QAT: what counts as divergence, and the states to go back to.

A loss that is NaN or infinite is divergence at once. So is a sudden rise: the median of the last 3 losses is more than
`Quantize.guard_rise` times the lowest running median (of 20 losses) so far; a single hard batch is not enough. So is a
collapsed mAP: an evaluation below `Quantize.guard_collapse` times the best one.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

State = dict[str, np.ndarray]

_WINDOW = 20  # losses of a running median
_SETTLED = 5  # losses before a running median counts; until then the first loss does
_NOW = 3  # losses whose median is compared
SNAPSHOT_STEPS = (
    25  # between two states that are kept; a state counts as good when nothing happened for so long
)


@dataclass
class LossWatch:
    """The losses that are needed to notice a rise.

    Attributes:
        recent: the last losses, oldest first.
        lowest: the lowest running median, at first the first loss; None before any loss.
    """

    recent: list[float] = field(default_factory=list)
    lowest: float | None = None

    def see(self, loss: float, rise: float | None) -> str | None:
        """Add a step's loss.

        Args:
            loss: of the step.
            rise: how many times the lowest running median is too much; None: anything finite is accepted.

        Returns: what is wrong with it; None: nothing.
        """
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        self.recent = [*self.recent, loss][-_WINDOW:]
        if self.lowest is None:
            self.lowest = loss
        now = statistics.median(self.recent[-_NOW:])
        if rise is not None and len(self.recent) >= _NOW and now > rise * self.lowest:
            return f"the loss rose to {now:.4g} from {self.lowest:.4g}"
        if len(self.recent) >= _SETTLED:
            self.lowest = min(self.lowest, statistics.median(self.recent))
        return None


def collapsed(value: float, best: float | None, part: float | None) -> str | None:
    """Whether an evaluation's mAP has collapsed.

    Args:
        value: the mAP, 0 to 1.
        best: of the evaluations before; None: there is none.
        part: fraction of the best mAP that is required; None: any value is accepted.

    Returns: what is wrong; None: nothing.
    """
    if best is None or part is None or value >= part * best:
        return None
    return f"mAP fell to {value:.4f} from {best:.4f}"


@dataclass
class GoodState:
    """A state that training can go back to.

    Attributes:
        step: number of steps done.
        state: every stored variable, by name.
        rate: state of the learning rate's scheduler.
        watch: the losses until then, fields of `LossWatch`.
    """

    step: int
    state: State
    rate: dict[str, Any]
    watch: dict[str, Any]

    @staticmethod
    def of(step: int, state: State, rate: dict[str, Any], watch: LossWatch) -> GoodState:
        """A state with copies of what training goes on to change."""
        return GoodState(step, state, dict(rate), asdict(watch))


@dataclass
class GoodStates:
    """The states to go back to, at most three.

    Attributes:
        evaluated: the start, or the last evaluation whose mAP had not collapsed.
        steady: a state after which nothing happened for `SNAPSHOT_STEPS` steps.
        fresh: the newest; not known to be good yet.
    """

    evaluated: GoodState | None = None
    steady: GoodState | None = None
    fresh: GoodState | None = None

    def add(self, good: GoodState, evaluated: bool) -> None:
        """Keep a state.

        Args:
            good: the state.
            evaluated: whether it was evaluated: then it is known to be good, and older ones are dropped.
        """
        if evaluated:
            self.evaluated, self.steady, self.fresh = good, None, None
        else:
            self.steady, self.fresh = self.fresh, good

    def go_back(self, to_evaluated: bool) -> GoodState | None:
        """The state to continue from; newer ones are dropped, so that a second failure goes further back.

        Args:
            to_evaluated: whether only an evaluated state is accepted.
        """
        target = self.evaluated if to_evaluated or self.steady is None else self.steady
        self.steady = self.fresh = None
        return target

    def named(self) -> dict[str, GoodState]:
        """The states that there are, by name of the attribute."""
        return {name: value for name, value in vars(self).items() if value is not None}


def fault_in(state: State) -> str | None:
    """What is wrong with a state: the first stored variable that is not finite; None: nothing."""
    for name, value in state.items():
        if not np.isfinite(value).all():
            return f"{name} is not finite"
    return None
