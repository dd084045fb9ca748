"""Scalars of a training for viewers and trackers, beside its CSV files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from picoquant.storage.csv_log import read_rows
from picoquant.training.scalar_sinks import Mlflow, Sink, Wandb, require_package, tensorboard, visualdl

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class ScalarSettings:
    """Where the scalars of a training go beside its CSV files; nowhere by default.

    Attributes:
        visualdl, tensorboard: folder of the log; None for none.
        wandb, mlflow: whether there is a run of it.
    """

    visualdl: Path | None = None
    tensorboard: Path | None = None
    wandb: bool = False
    mlflow: bool = False

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders that are written to."""
        return tuple(folder for folder in (self.visualdl, self.tensorboard) if folder)


class ScalarLog:
    """The rows of CSV files in the logs that are asked for; an interrupted and resumed training stays one curve.

    At the start each log is written anew from the rows kept in the CSV files, because none of them can remove the
    steps that a kill undid: a tracker's run of before stays as it ended, beside a new one with the whole curve.
    Column `loss` of group `train` becomes the tag `train/loss`. A log that fails later is left with a warning.

    Args:
        settings: which logs.
        earlier: `(group, CSV file, step)`: rows up to the step are copied into the logs.

    Raises: `ConfigError` when a package is not installed; `UserError` when the disk cannot be written or a tracker
        starts no run.
    """

    def __init__(self, settings: ScalarSettings, earlier: Sequence[tuple[str, Path, int]] = ()) -> None:
        self._sinks: dict[str, Sink] = {}
        if settings.visualdl:
            require_package("use_vdl")
            self._sinks["use_vdl"] = visualdl(settings.visualdl)
        if settings.tensorboard:
            require_package("use_tensorboard")
            self._sinks["use_tensorboard"] = tensorboard(settings.tensorboard)
        if settings.wandb:
            require_package("use_wandb")
            self._sinks["use_wandb"] = Wandb()
        if settings.mlflow:
            require_package("use_mlflow")
            self._sinks["use_mlflow"] = Mlflow()
        for group, path, step in earlier:
            for row in read_rows(path, until=step) if step else ():
                self.write(group, row)

    def write(self, group: str, row: Mapping[str, float]) -> None:
        """Add the values of a row at its `step`; `step` and `epoch` themselves are not logged."""
        values = {f"{group}/{name}": float(row[name]) for name in row if name not in ("step", "epoch")}
        for key, sink in list(self._sinks.items()):
            try:
                sink.write(values, int(row["step"]))
            except Exception as error:  # of whatever kind: a log is no reason to lose a training
                LOG.warning("%s: left out from step %d on: %s", key, row["step"], error)
                del self._sinks[key]

    def __enter__(self) -> ScalarLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for key, sink in self._sinks.items():
            try:
                sink.close(error is not None)
            except Exception as problem:  # as above
                LOG.warning("%s: its end is missing: %s", key, problem)
