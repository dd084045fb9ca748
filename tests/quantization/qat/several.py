"""A quantisation that any number of processes can share; as a script, `several.py MODEL TEACHER FOLDER KIND...`.

Four images a step are shared out; the kinds are the ways to find ranges.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import picoquant  # noqa: F401  isort: skip  (zlib before paddle)
import numpy as np

from picoquant.quantization.qat import pipeline
from picoquant.quantization.qat.step import TrainingStep
from picoquant.quantization.quantize import quantize
from picoquant.quantization.score import Score
from picoquant.quantization.settings import QuantizationSettings
from picoquant.utils.device import rank_and_world
from tests.networks.small_net import CONFIG, SIZE, settings

STEPS, IMAGES = 12, 4
# Of steps 0, 3, 6 (collapsed: back to 3), 6 again, 9, 12; of every tensor in INT8.
MAPS = [0.3, 0.31, 0.1, 0.32, 0.33, 0.34, 0.34]


class Keeper(TrainingStep):
    """Writes weights and ranges into a file at the last step.

    Args:
        file: the file.
        arguments: as `TrainingStep`.
    """

    def __init__(self, file: Path, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._file = file

    def __call__(self, *arguments: Any) -> Any:
        """As `TrainingStep`."""
        result = super().__call__(*arguments)
        state = self.student.state()
        found = {name: value for name, value in state.items() if name.endswith((".w_0", ".b_0", "@scale"))}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(self._file, **found)  # again at each step: the last one stays
        return result


def run(model: Path, teacher: Path, folder: Path, kind: str) -> dict:
    """Quantise in `folder`/kind with ranges of a kind (`average`, `pact`, `lsq`), by `levels` or `ptq`; the metrics.

    Where it is trained, every process leaves its weights and ranges after the last step in `end_<rank>.npz`.
    """
    rank, world = rank_and_world()
    maps, place = list(MAPS), folder / kind

    def batches(start: int, shard: tuple[int, int] = (rank, world)) -> Iterator[dict[str, np.ndarray]]:
        while True:
            image = np.random.RandomState(start).rand(IMAGES, 3, SIZE, SIZE).astype("float32")
            yield {"image": image[shard[0] :: shard[1]]}
            start += 1

    def measured(predict: object) -> Score:
        assert rank == 0
        return Score(maps.pop(0))

    distillation = {"teacher_model_dir": str(teacher)}
    quant = {"use_pact": True, "moving_rate": 0.99999} if kind == "pact" else {}  # ranges hardly move
    wanted = settings(STEPS, quant, distillation, learning_rate=0.02, eval_iter=3)
    own = QuantizationSettings(learned_ranges="lsq" if kind == "lsq" else "none", freeze_last=0.25)
    if kind == "ptq":
        own = QuantizationSettings(method="ptq")
    if kind == "levels":
        own = QuantizationSettings(training="levels", level_rate=3.0)
    keeper = partial(Keeper, place / f"end_{rank}.npz")
    with patch.object(pipeline, "TrainingStep", keeper):
        result = quantize(
            model,
            place / f"model{rank}",
            place / f"work{rank}",
            batches,
            replace(wanted, quantization=own, batch_size=IMAGES // world),
            evaluate=measured,
            config=CONFIG,
            calibration=lambda: batches(0, (0, 1)),
        )
    return result.metrics


if __name__ == "__main__":
    for one in sys.argv[4:]:
        run(*map(Path, sys.argv[1:4]), one)
