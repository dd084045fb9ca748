"""What was tried, with its results: as the files of a search, and as text."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from picoquant.quantization.score import Score
from picoquant.storage.files import whole_file, write_json
from picoquant.utils.progress import duration
from picoquant.utils.tables import columns

TABLE = "trials"  # .csv and .json
DONE, FAILED, STOPPED = "done", "failed", "stopped"


@dataclass(frozen=True)
class Trial:
    """Settings that were tried.

    Attributes:
        name: of its folder.
        method: `ptq` or `qat`.
        overrides: `KEY.SUB=VALUE` texts that change the recipe to them.
        status: `done`, `failed`, or `stopped` because the time was used up.
        score: on the evaluation images; None unless done.
        seconds: that it took, over all calls.
        interval: 95 % confidence interval of the fidelity; None: not computed.
        reason: why it failed.
    """

    name: str
    method: str
    overrides: tuple[str, ...]
    status: str
    score: Score | None = None
    seconds: float = 0.0
    interval: tuple[float, float] | None = None
    reason: str = ""

    @property
    def worth(self) -> float | None:
        """See `Score.worth`; None without a result."""
        return None if self.score is None else self.score.worth

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values, score = asdict(self), self.score
        del values["score"]
        return {
            **values,
            "mAP": score.mAP if score else None,
            "fidelity": score.fidelity if score else None,
            "worth": self.worth,
        }


def write_table(folder: Path, trials: Sequence[Trial], best: Trial | None = None) -> None:
    """Write `trials.csv` and `trials.json`.

    Args:
        folder: of the search.
        trials: in their order.
        best: the one that was chosen, if any was.
    """
    write_json(folder / f"{TABLE}.json", as_json(trials, best))
    fields = [
        "trial", "chosen", "status", "method", "mAP", "fidelity", "fidelity_low", "fidelity_high", "worth", "seconds",
        "overrides", "reason",
    ]  # fmt: skip
    with whole_file(folder / f"{TABLE}.csv") as stream:
        table = csv.DictWriter(stream, fields, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for trial in trials:
            low, high = trial.interval or (None, None)
            row = {
                "trial": trial.name,
                "chosen": int(trial is best),
                "fidelity_low": low,
                "fidelity_high": high,
            }
            table.writerow({**trial.as_dict(), **row, "overrides": " ".join(trial.overrides)})


def as_json(trials: Sequence[Trial], best: Trial | None) -> dict[str, Any]:
    """The trials and the name of the chosen one, as JSON values."""
    return {"best": best.name if best else None, "trials": [trial.as_dict() for trial in trials]}


def as_text(trials: Sequence[Trial], best: Trial | None) -> str:
    """A line for each trial; the chosen one is marked."""
    lines = [["trial", "mAP", "fidelity", "95 % interval", "worth", "took", ""]]
    for trial in trials:
        score = trial.score or Score(-1.0)
        interval = f"{trial.interval[0]:.4f}-{trial.interval[1]:.4f}" if trial.interval else ""
        said = "chosen" if trial is best else "" if trial.status == DONE else trial.status
        fidelity, worth = _number(score.fidelity), _number(trial.worth)
        lines.append(
            [trial.name, _number(score.mAP), fidelity, interval, worth, duration(trial.seconds), said]
        )
    failed = [f"{trial.name}: {trial.reason}" for trial in trials if trial.status == FAILED]
    return "\n".join([columns(lines), *failed])


def _number(value: float | None) -> str:
    return "-" if value is None or value < 0 else f"{value:.4f}"
