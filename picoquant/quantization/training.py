"""The steps of QAT: resumable, never silent, stopped by a loss that is no number."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from picoquant.csv_log import CsvLog
from picoquant.errors import UserError
from picoquant.quantization.checkpoint import Checkpoints, QatProgress
from picoquant.quantization.compressor import QatPrograms
from picoquant.quantization.programs import read_variable, state_names, write_variable
from picoquant.quantization.settings import QatTrainSettings

LOG = logging.getLogger("picoquant")

State = dict[str, np.ndarray]

# AutoCompression ends when the INT8 mAP is this near the FP32 one (only where origin_metric is set).
_NEAR_ENOUGH = 0.005


@dataclass
class QatTrainer:
    """Trains the programs that the compressor built.

    Attributes:
        programs: what runs.
        settings: section `TrainConfig`.
        steps: how many to train.
        checkpoints: where the state is kept.
        every: seconds between two checkpoints.
        log: a row for each step.
        show: makes the line that shows progress.
        measure: mAP, 0 to 1, of the INT8 model with the given variables; None: nothing is measured.
        original_metric: the FP32 model's, where it was measured.
        patience: evaluations without a better one that end training; None: any number.
    """

    programs: QatPrograms
    settings: QatTrainSettings
    steps: int
    checkpoints: Checkpoints
    every: float
    log: CsvLog
    show: Callable[..., Any]
    measure: Callable[[State], float] | None
    original_metric: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        self._scope = paddle.static.global_scope()
        self._names = state_names(self.programs.train)

    def state(self) -> State:
        """Every stored variable of the training program."""
        return {name: read_variable(self._scope, name) for name in self._names}

    def restore(self, state: State, progress: QatProgress) -> None:
        """Continue from a checkpoint."""
        for name, value in state.items():
            write_variable(self._scope, name, value)
        if progress.rate:
            self.programs.rate.set_state_dict(progress.rate)

    def run(self, feeds: Iterator[dict[str, np.ndarray]], progress: QatProgress) -> QatProgress:
        """Train from where `progress` is to the end.

        Args:
            feeds: batches from the next step on, without end.
            progress: where training is.

        Returns: the same object, at its end.

        Raises: `UserError` when the loss is not finite; the last good checkpoint stays.
        """
        if self.measure and not progress.evaluations:
            self._measure(progress)
            self._save(progress)
        saved = time.monotonic()
        line = self.show("quantize", self.steps, start=progress.step)
        while progress.step < self.steps and not self._finished(progress):
            rate = self._rate()
            loss = self._step(next(feeds), rate, progress.step + 1)
            progress.step += 1
            line.update(progress.step, loss=loss, lr=rate)
            due = self.measure and (
                progress.step % self.settings.eval_iter == 0 or progress.step == self.steps
            )
            if due:
                line.close()
                self._measure(progress)
            value = {"mAP": progress.evaluations[-1][1]} if due else {}
            self.log.write(step=progress.step, loss=loss, lr=rate, **value)
            last = progress.step == self.steps
            if due or last or time.monotonic() - saved >= self.every:
                self._save(progress)
                saved = time.monotonic()
        line.close()
        return progress

    def _step(self, feed: dict[str, np.ndarray], rate: float, step: int) -> float:
        programs = self.programs
        inputs = {name: feed[name] for name in programs.feeds}
        inputs.update(programs.teacher(feed))
        loss = programs.executor.run(programs.train, feed=inputs, fetch_list=[programs.loss])[0]
        loss = float(np.asarray(loss).reshape(-1)[0])
        if not math.isfinite(loss):
            raise UserError(
                f"quantisation: the loss is {loss} at step {step} with learning rate {rate:g}; the state of "
                "an earlier step is kept; lower TrainConfig.learning_rate and run again"
            )
        if not isinstance(programs.rate, float):
            programs.rate.step()
        return loss

    def _patience_is_over(self, progress: QatProgress) -> bool:
        if self.patience is None or not progress.evaluations:
            return False
        after_best = [step for step, _ in progress.evaluations if step > progress.best_step]
        return len(after_best) >= self.patience

    def _rate(self) -> float:
        rate = self.programs.rate
        return float(rate if isinstance(rate, float) else rate())

    def _save(self, progress: QatProgress) -> None:
        state = self.state()
        broken = [name for name, value in state.items() if not np.isfinite(value).all()]
        if broken:
            raise UserError(
                f"quantisation: {broken[0]} is not finite after step {progress.step} with learning rate "
                f"{self._rate():g}; the state of an earlier step is kept; lower TrainConfig.learning_rate "
                "and run again"
            )
        if not isinstance(self.programs.rate, float):
            progress.rate = dict(self.programs.rate.state_dict())
        self.checkpoints.save(state, progress)

    def _measure(self, progress: QatProgress) -> None:
        state = self.state()
        value = float(self.measure(state))
        best = progress.best
        progress.evaluations.append((progress.step, value))
        if best is None or value > best:
            progress.best_step = progress.step
            self.checkpoints.save_best(state, progress.step)
        LOG.info(
            "quantize: INT8 mAP %.4f after step %d; best %.4f after step %d",
            value,
            progress.step,
            progress.best,
            progress.best_step,
        )

    def _finished(self, progress: QatProgress) -> bool:
        if self._patience_is_over(progress):
            LOG.info(
                "quantize: no better mAP than %.4f (step %d) in %d evaluations (Quantize.patience); done",
                progress.best,
                progress.best_step,
                self.patience,
            )
            return True
        if not progress.evaluations or progress.best_step == 0:
            return False
        target, original = self.settings.target_metric, self.original_metric
        if target is not None and progress.best > target:
            LOG.info("quantize: mAP %.4f is above target_metric %.4f; done", progress.best, target)
            return True
        if original and abs(progress.best - original) / original <= _NEAR_ENOUGH:
            LOG.info("quantize: mAP %.4f is within 0.5 %% of FP32's %.4f; done", progress.best, original)
            return True
        return False
