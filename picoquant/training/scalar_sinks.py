"""Viewers and trackers that take the scalars of a training, each behind the same two calls.

VisualDL (https://github.com/PaddlePaddle/VisualDL) and TensorBoard write into a folder. Weights & Biases and MLflow
are set by their own environment variables (WANDB_MODE, WANDB_PROJECT, MLFLOW_TRACKING_URI …).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from picoquant.errors import ConfigError, ToolError
from picoquant.storage.files import disk_errors

VISUALDL_FILE = "vdlrecords.picoquant.log"  # VisualDL finds files by "vdlrecords" in their names
TENSORBOARD_FILES = "events.out.tfevents.*.picoquant"
_FLUSH_SECONDS = 10  # how far a viewer may lag behind

# Key of a recipe -> the Python package that it needs, which is picoquant's extra as well, and the name to import.
PACKAGES = {
    "use_vdl": ("visualdl", "visualdl"),
    "use_tensorboard": ("tensorboard", "tensorboardX"),
    "use_wandb": ("wandb", "wandb"),
    "use_mlflow": ("mlflow", "mlflow"),
}


class Sink(Protocol):
    """Where scalars go."""

    def write(self, values: Mapping[str, float], step: int) -> None:
        """Add values by tag (`train/loss`) at a step."""

    def close(self, failed: bool) -> None:
        """End the log; `failed` if the training did."""


class _Writer:
    """A log of files that a package's writer makes."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, values: Mapping[str, float], step: int) -> None:
        """See `Sink`."""
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)

    def close(self, failed: bool) -> None:
        """See `Sink`."""
        self._writer.close()


def visualdl(folder: Path) -> Sink:
    """A log file in a folder, written anew; other files there are not touched."""
    from visualdl import LogWriter

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / VISUALDL_FILE).unlink(missing_ok=True)
        return _Writer(LogWriter(str(folder), file_name=VISUALDL_FILE, flush_secs=_FLUSH_SECONDS))


def tensorboard(folder: Path) -> Sink:
    """An event file in a folder, written anew; other files there are not touched."""
    from tensorboardX import SummaryWriter

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in folder.glob(TENSORBOARD_FILES):
            earlier.unlink()
        return _Writer(SummaryWriter(str(folder), flush_secs=_FLUSH_SECONDS, filename_suffix=".picoquant"))


class Wandb:
    """A new run of Weights & Biases.

    Raises: `ToolError` with its own words when it starts none.
    """

    def __init__(self) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # to its makers
        import wandb

        try:
            self._run = wandb.init(project=os.environ.get("WANDB_PROJECT", "picoquant"), job_type="train")
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # of whatever kind: the network's, its service's, its own
            raise ToolError(
                f"use_wandb: Weights & Biases started no run: {error}; `wandb login`, or WANDB_MODE=offline keeps "
                "it on this machine, or use_wandb=false"
            ) from error

    def write(self, values: Mapping[str, float], step: int) -> None:
        """See `Sink`."""
        self._run.log({**values, "step": step})

    def close(self, failed: bool) -> None:
        """See `Sink`."""
        self._run.finish(exit_code=int(failed))


class Mlflow:
    """A new run of MLflow.

    Raises: `ToolError` with its own words when it starts none.
    """

    def __init__(self) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        try:
            self._client = mlflow.MlflowClient()
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "picoquant")
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
            self._run = self._client.create_run(experiment).info.run_id
        except Exception as error:  # of whatever kind: the network's, the server's, its own
            raise ToolError(
                f"use_mlflow: MLflow started no run: {error}; MLFLOW_TRACKING_URI says where it keeps them "
                "(file:/some/folder, sqlite:///file.db or a server), or use_mlflow=false"
            ) from error

    def write(self, values: Mapping[str, float], step: int) -> None:
        """See `Sink`."""
        for tag, value in values.items():
            self._client.log_metric(self._run, tag, value, step=step)

    def close(self, failed: bool) -> None:
        """See `Sink`."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def require_package(key: str) -> None:
    """Require the package that a key of a recipe needs.

    Raises: `ConfigError` when it is not installed.
    """
    extra, module = PACKAGES[key]
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"{key}: true needs the package {module}: pip install 'picoquant[{extra}]', or set "
            f"{key}=false (the same numbers are in train/metrics.csv)"
        )
