"""The result of a training, and its files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picoquant.training.curves import draw_curves

BEST, LAST, METRICS, EVALUATIONS = "best.pdparams", "last.pdparams", "metrics.csv", "evaluations.csv"
CURVES = "curves.png"


@dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    Attributes:
        work_dir: where its files are.
        best_weights: file of the weights with the best mAP (or what `Train.save_best` names); of the last ones where
            nothing was evaluated. With an average (`ema`) they are the averaged weights.
        last_weights: file of the weights at the end.
        metrics: of the best evaluation; empty where nothing was evaluated.
        best_epoch: number of completed epochs at the best evaluation.
        epochs, steps: number of each, those of interrupted runs included.
        images_per_second: of this run; 0 when no step remained to be done.
        scalar_folders: of the logs of VisualDL and TensorBoard that were requested.
    """

    work_dir: Path
    best_weights: Path
    last_weights: Path
    metrics: dict[str, float]
    best_epoch: int
    epochs: int
    steps: int
    images_per_second: float = field(compare=False)
    scalar_folders: tuple[Path, ...] = ()

    def write(self, out: Path) -> dict[str, Any]:
        """Copy the files of weights and metrics into folder `out`, and plot the curves there.

        The logs of viewers are copied too, unless they are outside of `work_dir`.

        Returns: the numbers, JSON-able.
        """
        out.mkdir(parents=True, exist_ok=True)
        for name in (BEST, LAST, METRICS, EVALUATIONS):
            source = self.best_weights if name == BEST else self.work_dir / name
            if source.is_file():
                shutil.copyfile(source, out / name)
        draw_curves(out / METRICS, out / EVALUATIONS, out / CURVES)
        for folder in self.scalar_folders:
            if self.work_dir in folder.parents:
                shutil.copytree(folder, out / folder.name)
        return {
            **self.metrics,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "steps": self.steps,
            "images_per_second": round(self.images_per_second, 2),
        }
