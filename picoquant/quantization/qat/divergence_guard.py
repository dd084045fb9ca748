"""When QAT diverges: what counts as that, and the states to go back to.

A loss that is no number is one at once. A sudden rise is one when the median of the last 3 losses is more than
`Quantize.guard_rise` times the lowest running median (of 20 losses) so far; one batch that is hard does not
do it. A collapsed mAP is one when an evaluation is below `Quantize.guard_collapse` times the best one.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

State = dict[str, np.ndarray]

_WINDOW = 20  # losses of a running median
_SETTLED = 5  # so many losses before a running median counts; until then the first loss does
_NOW = 3  # losses whose median is compared
SNAPSHOT_STEPS = 25  # between two states that are kept; one counts as good when that long nothing happened


@dataclass
class LossWatch:
    """The losses so far, as far as they are needed to notice a rise.

    Attributes:
        recent: the last ones, oldest first.
        lowest: the lowest running median, or the first loss; None before it.
    """

    recent: list[float] = field(default_factory=list)
    lowest: float | None = None

    def see(self, loss: float, rise: float | None) -> str | None:
        """Take a step's loss in; what is wrong with it, or None.

        Args:
            loss: of the step.
            rise: how many times the lowest running median is too much; None: anything finite will do.
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
    """What is wrong with an evaluation's mAP, or None.

    Args:
        value: the mAP.
        best: of the evaluations before; None: there is none.
        part: of the best one that is too little; None: any value will do.
    """
    if best is None or part is None or value >= part * best:
        return None
    return f"mAP fell to {value:.4f} from {best:.4f}"


@dataclass
class GoodState:
    """What training can go back to.

    Attributes:
        step: steps done.
        state: every stored variable.
        rate: of the learning rate's scheduler.
        watch: the losses until then.
    """

    step: int
    state: State
    rate: dict[str, Any]
    watch: dict[str, Any]

    @staticmethod
    def of(step: int, state: State, rate: dict[str, Any], watch: LossWatch) -> GoodState:
        """A state with copies of what changes."""
        return GoodState(step, state, dict(rate), asdict(watch))


@dataclass
class GoodStates:
    """The states to go back to, at most three.

    Attributes:
        evaluated: the start, or the last evaluation that had not collapsed.
        steady: behind which nothing happened for `SNAPSHOT_STEPS` steps.
        fresh: the newest; not known to be good yet.
    """

    evaluated: GoodState | None = None
    steady: GoodState | None = None
    fresh: GoodState | None = None

    def add(self, good: GoodState, evaluated: bool) -> None:
        """Keep a state; what was evaluated is known to be good, and makes older ones needless."""
        if evaluated:
            self.evaluated, self.steady, self.fresh = good, None, None
        else:
            self.steady, self.fresh = self.fresh, good

    def go_back(self, to_evaluated: bool) -> GoodState | None:
        """The state to continue from; newer ones are forgotten, and a second failure goes further back.

        Args:
            to_evaluated: whether a state that was not evaluated will not do.
        """
        target = self.evaluated if to_evaluated or self.steady is None else self.steady
        self.steady = self.fresh = None
        return target

    def named(self) -> dict[str, GoodState]:
        """Those that are there, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


def fault_in(state: State) -> str | None:
    """The first stored variable that is not finite, or None."""
    for name, value in state.items():
        if not np.isfinite(value).all():
            return f"{name} is not finite"
    return None
