"""What an interrupted quantisation continues from."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from picoquant.quantization.qat.divergence_guard import GoodState, GoodStates, LossWatch
from picoquant.quantization.score import Score
from picoquant.storage import checkpoints
from picoquant.storage.checkpoints import (
    Checkpoint,
    DamagedCheckpointError,
    read_checkpoint,
    write_checkpoint,
)

LOG = logging.getLogger("picoquant")

_LAST = "last"  # the group of the variables to continue from; the other groups are the guard's
_BEST = "best"


class Evaluated(NamedTuple):
    """An evaluation: after which step, and what `Score` holds."""

    step: int
    mAP: float  # noqa: N815
    fidelity: float | None = None

    @property
    def score(self) -> Score:
        return Score(self.mAP, self.fidelity)


@dataclass
class QatProgress:
    """How far training is.

    Attributes:
        step: number of steps done.
        evaluations: every evaluation so far.
        best_step: step of the best evaluation; None before the first.
        original_metric: mAP of the FP32 model, 0 to 1; None: not measured.
        rate: state of the learning rate's scheduler.
        watch: the losses that the divergence guard compares.
        rollbacks: of every return to an earlier state: `step` (from), `to`, `why`.
        gave_up: whether the guard ended training.
        awaited: the log's row of a step that is still to be evaluated; empty: there is none.
    """

    step: int = 0
    evaluations: list[Evaluated] = field(default_factory=list)
    best_step: int | None = None
    original_metric: float | None = None
    rate: dict[str, Any] = field(default_factory=dict)
    watch: LossWatch = field(default_factory=LossWatch)
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    gave_up: bool = False
    awaited: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> Score | None:
        """Of the best evaluation."""
        return next((one.score for one in self.evaluations if one.step == self.best_step), None)


class Checkpoints:
    """The newest states to continue from, and the weights of the best evaluation, on disk.

    Args:
        folder: the work folder.
        fingerprint: of models and settings; files with another one are not used.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._last = checkpoints.Checkpoints(Path(folder) / "checkpoints")
        self._best = Path(folder) / "best.ckpt"
        self._fingerprint = fingerprint
        self._room_is_known = False

    def save(self, state: dict[str, np.ndarray], progress: QatProgress, good: GoodStates) -> None:
        """Write the state to continue from, and those that the guard may go back to.

        Raises: `UserError` when the disk has no room for it.
        """
        found = self.checkpoint(state, progress, good)
        if not self._room_is_known:
            self._last.require_room(checkpoints.array_bytes(found))
            self._room_is_known = True
        self._last.save(progress.step, found)

    def checkpoint(self, state: dict[str, np.ndarray], progress: QatProgress, good: GoodStates) -> Checkpoint:
        """The content that `save` writes."""
        meta = {"fingerprint": self._fingerprint, **asdict(progress), "good": {}}
        groups = {_LAST: state}
        for kind, kept in good.named().items():
            groups[kind] = kept.state
            meta["good"][kind] = {"step": kept.step, "rate": kept.rate, "watch": kept.watch}
        return Checkpoint(groups, meta)

    def load(self) -> tuple[dict[str, np.ndarray], QatProgress, GoodStates] | None:
        """What was passed to `save` last, of the newest undamaged file; None without one."""
        found = self._last.newest()
        return None if found is None else self.of_checkpoint(found)

    def of_checkpoint(
        self, found: Checkpoint
    ) -> tuple[dict[str, np.ndarray], QatProgress, GoodStates] | None:
        """What was passed to `checkpoint`; None when it was of another model or other settings."""
        meta = dict(found.progress)
        if meta.pop("fingerprint") != self._fingerprint:
            LOG.info("quantise: %s is of another model or other settings: start anew", self._last.folder)
            return None
        meta["evaluations"] = [Evaluated(*one) for one in meta["evaluations"]]
        meta["watch"] = LossWatch(**meta["watch"])
        good = {kind: GoodState(state=found.arrays[kind], **kept) for kind, kept in meta.pop("good").items()}
        return found.arrays[_LAST], QatProgress(**meta), GoodStates(**good)

    def save_best(self, state: dict[str, np.ndarray], step: int) -> None:
        """Keep the weights of the best evaluation."""
        write_checkpoint(
            self._best, Checkpoint({_BEST: state}, {"fingerprint": self._fingerprint, "step": step})
        )

    def load_best(self, step: int) -> dict[str, np.ndarray] | None:
        """The weights of the best evaluation; None when they are damaged or not those of `step`."""
        if not self._best.is_file():
            return None
        try:
            found = read_checkpoint(self._best)
        except DamagedCheckpointError as error:
            LOG.warning("%s", error)
            return None
        if found.progress != {"fingerprint": self._fingerprint, "step": step}:
            return None
        return found.arrays[_BEST]

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self._last.folder, ignore_errors=True)
        self._best.unlink(missing_ok=True)
