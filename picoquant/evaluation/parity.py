"""The steps of a network from training to deployment, one below the other: which one loses accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.evaluation.evaluate import Evaluation
from picoquant.evaluation.paired import Paired
from picoquant.utils.tables import columns


@dataclass(frozen=True)
class Rung:
    """One step.

    Attributes:
        name: `qat_graph`.
        what: in words.
        after: the step it is compared with; empty for the first.
        evaluation: None where it was not run.
        change: against `after`, on the same images.
        absent: why there is nothing to run here; not a failure.
        failure: why it did not run though it is there.
        note: what must be known of the numbers.
    """

    name: str
    what: str
    after: str = ""
    evaluation: Evaluation | None = None
    change: Paired | None = None
    absent: str = ""
    failure: str = ""
    note: str = ""

    def broken(self, max_loss: float) -> bool:
        """Whether it failed, or lost more mAP than `max_loss` against the step before."""
        lost = self.change is not None and self.change.difference < -max_loss
        return bool(self.failure) or lost


@dataclass(frozen=True)
class Ladder:
    """All steps.

    Attributes:
        rungs: in order.
        max_loss: the mAP (0 to 1) that a step may lose.
        images: how many were evaluated.
    """

    rungs: tuple[Rung, ...]
    max_loss: float
    images: int

    @property
    def broken(self) -> tuple[Rung, ...]:
        """The steps that lose too much or failed."""
        return tuple(rung for rung in self.rungs if rung.broken(self.max_loss))

    @property
    def conclusive(self) -> bool:
        """Whether the first step reaches a mAP from which that much can be lost."""
        first = next((rung.evaluation for rung in self.rungs if rung.evaluation), None)
        return first is not None and first.metrics["mAP"] > self.max_loss

    def verdict(self) -> str:
        """One line: which step is broken, or that none is."""
        if not self.broken:
            said = f"no step loses more than {self.max_loss:g} mAP"
            return said if self.conclusive else f"{said}, but the first step has no more than that to lose"
        said = []
        for rung in self.broken:
            if rung.failure:
                said.append(f"step {rung.name} does not run: {rung.failure}")
            else:
                change = rung.change
                said.append(
                    f"step {rung.name} loses {-change.difference:.4f} mAP against {rung.after} "
                    f"(95 % interval {change.low:+.4f} to {change.high:+.4f}; allowed: {self.max_loss:g})"
                )
        return "; ".join(said)

    def to_json(self) -> dict[str, Any]:
        """`ladder` with its `steps`, and `backends.<step>` with each step's numbers."""
        steps = []
        for rung in self.rungs:
            paired = rung.change.as_dict() if rung.change else {}
            steps.append(
                {
                    "name": rung.name,
                    "what": rung.what,
                    "after": rung.after or None,
                    "mAP": rung.evaluation.metrics["mAP"] if rung.evaluation else None,
                    "difference": paired.get("difference"),
                    "interval_95": paired.get("interval_95"),
                    "told_apart": paired.get("told_apart"),
                    "lost_most": paired.get("lost_most", []),
                    "broken": rung.broken(self.max_loss),
                    "not_run": rung.absent or rung.failure or None,
                    "note": rung.note,
                }
            )
        return {
            "ladder": {
                "images": self.images,
                "max_loss": self.max_loss,
                "passed": not self.broken,
                "conclusive": self.conclusive,
                "broken": [rung.name for rung in self.broken],
                "steps": steps,
            },
            "backends": {rung.name: rung.evaluation.metrics for rung in self.rungs if rung.evaluation},
        }

    def to_text(self) -> str:
        """For a person: a line a step, notes, the verdict."""
        lines = [["", "mAP", "AP50", "AP75", "- before", "95 % interval", ""]]
        for rung in self.rungs:
            mark = "LOSES TOO MUCH" if rung.broken(self.max_loss) else ""
            if rung.evaluation is None:
                lines.append([rung.name, "-", "-", "-", "", "", "FAILED" if rung.failure else ""])
                continue
            numbers = [f"{rung.evaluation.metrics[key]:.4f}" for key in ("mAP", "AP50", "AP75")]
            change = rung.change
            interval = f"{change.low:+.4f} to {change.high:+.4f}" if change else ""
            lines.append([rung.name, *numbers, f"{change.difference:+.4f}" if change else "", interval, mark])
        said = [f"{rung.name}: {rung.what}{_after(rung, self.rungs)}" for rung in self.rungs]
        said += [f"{rung.name}: {rung.note}" for rung in self.rungs if rung.note]
        said += [
            f"{rung.name}: not run, {rung.absent or rung.failure}"
            for rung in self.rungs
            if not rung.evaluation
        ]
        return "\n\n".join([columns(lines), "\n".join(said), f"{self.images} images: {self.verdict()}"])


def _after(rung: Rung, rungs: Sequence[Rung]) -> str:
    """Said where a step is not compared with the one above it."""
    place = rungs.index(rung)
    above = rungs[place - 1].name if place else ""
    return f", compared with {rung.after}" if rung.after and rung.after != above else ""
