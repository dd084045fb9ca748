"""What an interrupted quantisation continues from."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.files import whole_file
from picoquant.quantization.guard import GoodState, GoodStates, LossWatch

LOG = logging.getLogger("picoquant")

_META = "__progress__"
_LAST = "last/"  # before the names of the variables to continue from


@dataclass
class QatProgress:
    """How far training is.

    Attributes:
        step: steps done.
        evaluations: step and mAP of every evaluation so far.
        best_step: step of the best evaluation; None before the first.
        original_metric: mAP of the FP32 model, where it was measured.
        rate: state of the learning rate's scheduler.
        watch: the losses, as the divergence guard looks at them.
        rollbacks: every time the guard went back: `step` (from), `to`, `why`.
        gave_up: whether the guard ended training.
    """

    step: int = 0
    evaluations: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    original_metric: float | None = None
    rate: dict[str, Any] = field(default_factory=dict)
    watch: LossWatch = field(default_factory=LossWatch)
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    gave_up: bool = False

    @property
    def best(self) -> float | None:
        """mAP of the best evaluation."""
        return dict(self.evaluations).get(self.best_step)


class Checkpoints:
    """Two files in a folder: the state to continue from, and the weights of the best evaluation.

    Args:
        folder: where they are.
        fingerprint: of model and settings; files of another one are not used.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._last, self._best = Path(folder) / "checkpoint.npz", Path(folder) / "best.npz"
        self._fingerprint = fingerprint

    def save(self, state: dict[str, np.ndarray], progress: QatProgress, good: GoodStates) -> None:
        """Write the state to continue from, and those that the guard may go back to."""
        meta = {"fingerprint": self._fingerprint, **asdict(progress), "good": {}}
        arrays = {_LAST + name: value for name, value in state.items()}
        for kind, kept in good.named().items():
            arrays.update({f"{kind}/{name}": value for name, value in kept.state.items()})
            meta["good"][kind] = {"step": kept.step, "rate": kept.rate, "watch": kept.watch}
        _write(self._last, {**arrays, _META: np.array(json.dumps(meta))})

    def load(self) -> tuple[dict[str, np.ndarray], QatProgress, GoodStates] | None:
        """What `save` was given, or None."""
        arrays = _read(self._last)
        if arrays is None:
            return None
        meta = json.loads(str(arrays.pop(_META)))
        if meta.pop("fingerprint") != self._fingerprint:
            LOG.info("quantise: %s is of another model or other settings: start anew", self._last)
            return None
        meta["evaluations"] = [(int(step), float(value)) for step, value in meta["evaluations"]]
        meta["watch"] = LossWatch(**meta["watch"])
        good = {
            kind: GoodState(state=_below(f"{kind}/", arrays), **kept)
            for kind, kept in meta.pop("good").items()
        }
        return _below(_LAST, arrays), QatProgress(**meta), GoodStates(**good)

    def save_best(self, state: dict[str, np.ndarray], step: int) -> None:
        """Keep the weights of the best evaluation."""
        _write(self._best, {**state, _META: np.array(json.dumps([self._fingerprint, step]))})

    def load_best(self, step: int) -> dict[str, np.ndarray] | None:
        """The weights of the best evaluation, if they are those of `step`."""
        state = _read(self._best)
        if state is None or json.loads(str(state.pop(_META))) != [self._fingerprint, step]:
            return None
        return state

    def remove(self) -> None:
        """Forget everything."""
        self._last.unlink(missing_ok=True)
        self._best.unlink(missing_ok=True)


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: value for name, value in arrays.items() if name.startswith(prefix)}


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    # np.savez takes names as keyword arguments, so a variable called "file" would not do.
    with whole_file(path, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, value in arrays.items():
            content = io.BytesIO()
            np.save(content, value, allow_pickle=False)
            archive.writestr(f"{name}.npy", content.getvalue())


def _read(path: Path) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
