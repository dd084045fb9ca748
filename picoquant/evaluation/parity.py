"""The parity ladder: mAP at each step from training to deployment, to find the step that loses accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.evaluation.evaluate import Evaluation
from picoquant.evaluation.paired import Paired
from picoquant.utils.tables import columns


@dataclass(frozen=True)
class ParityStep:
    """One step of the ladder.

    Attributes:
        name: name of the step, for example `qat_graph`.
        what: description of the step.
        after: name of the step that it is compared with; empty for the first.
        evaluation: its metrics and detections; None if it was not run.
        change: the difference of its mAP to that of `after`, on the same images.
        absent: why the step does not exist here, which is not a failure; empty if it exists.
        failure: the error with which the step failed; empty if it did not.
        note: a remark that is needed to read the numbers.
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
        """Whether the step failed, or has lost more mAP than `max_loss` against `after`."""
        lost = self.change is not None and self.change.difference < -max_loss
        return bool(self.failure) or lost


@dataclass(frozen=True)
class Ladder:
    """All steps of a network.

    Attributes:
        steps: in order, from training to deployment.
        max_loss: the largest loss of mAP (0 to 1) allowed for a step.
        images: number of images that were evaluated.
    """

    steps: tuple[ParityStep, ...]
    max_loss: float
    images: int

    @property
    def broken(self) -> tuple[ParityStep, ...]:
        """The steps that lose more than `max_loss` or failed."""
        return tuple(step for step in self.steps if step.broken(self.max_loss))

    @property
    def conclusive(self) -> bool:
        """Whether the first step's mAP is above `max_loss`; otherwise no step could lose that much."""
        first = next((step.evaluation for step in self.steps if step.evaluation), None)
        return first is not None and first.metrics["mAP"] > self.max_loss

    def verdict(self) -> str:
        """One line that names the broken steps, or states that there is none."""
        if not self.broken:
            ok = f"no step loses more than {self.max_loss:g} mAP"
            return ok if self.conclusive else f"{ok}, but the first step has no more than that to lose"
        problems = []
        for step in self.broken:
            if step.failure:
                problems.append(f"step {step.name} does not run: {step.failure}")
            elif change := step.change:
                problems.append(
                    f"step {step.name} loses {-change.difference:.4f} mAP against {step.after} "
                    f"(95 % interval {change.low:+.4f} to {change.high:+.4f}; allowed: {self.max_loss:g})"
                )
        return "; ".join(problems)

    def to_json(self) -> dict[str, Any]:
        """The ladder as JSON values: `ladder` with its `steps`, and metrics in `backends.<step>`."""
        rows = []
        for step in self.steps:
            paired = step.change.as_dict() if step.change else {}
            rows.append(
                {
                    "name": step.name,
                    "what": step.what,
                    "after": step.after or None,
                    "mAP": step.evaluation.metrics["mAP"] if step.evaluation else None,
                    "difference": paired.get("difference"),
                    "interval_95": paired.get("interval_95"),
                    "told_apart": paired.get("told_apart"),
                    "lost_most": paired.get("lost_most", []),
                    "broken": step.broken(self.max_loss),
                    "not_run": step.absent or step.failure or None,
                    "note": step.note,
                }
            )
        return {
            "ladder": {
                "images": self.images,
                "max_loss": self.max_loss,
                "passed": not self.broken,
                "conclusive": self.conclusive,
                "broken": [step.name for step in self.broken],
                "steps": rows,
            },
            "backends": {step.name: step.evaluation.metrics for step in self.steps if step.evaluation},
        }

    def to_text(self) -> str:
        """The ladder as text: one line per step, notes, the verdict."""
        lines = [["", "mAP", "AP50", "AP75", "- before", "95 % interval", ""]]
        for step in self.steps:
            mark = "LOSES TOO MUCH" if step.broken(self.max_loss) else ""
            if step.evaluation is None:
                lines.append([step.name, "-", "-", "-", "", "", "FAILED" if step.failure else ""])
                continue
            numbers = [f"{step.evaluation.metrics[key]:.4f}" for key in ("mAP", "AP50", "AP75")]
            change = step.change
            interval = f"{change.low:+.4f} to {change.high:+.4f}" if change else ""
            lines.append([step.name, *numbers, f"{change.difference:+.4f}" if change else "", interval, mark])
        notes = [f"{step.name}: {step.what}{_after(step, self.steps)}" for step in self.steps]
        notes += [f"{step.name}: {step.note}" for step in self.steps if step.note]
        notes += [
            f"{step.name}: not run, {step.absent or step.failure}"
            for step in self.steps
            if not step.evaluation
        ]
        return "\n\n".join([columns(lines), "\n".join(notes), f"{self.images} images: {self.verdict()}"])


def _after(step: ParityStep, steps: Sequence[ParityStep]) -> str:
    """The text that names `after`, for a step that is not compared with the one above it."""
    index = steps.index(step)
    above = steps[index - 1].name if index else ""
    return f", compared with {step.after}" if step.after and step.after != above else ""
