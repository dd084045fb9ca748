"""The steps of QAT: resumable, never silent, taken back when they diverge."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.errors import UserError
from picoquant.quantization.calibration_images import close_batches
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.paths import QAT_LOG
from picoquant.quantization.qat.checkpoint import Checkpoints, Evaluated, QatProgress
from picoquant.quantization.qat.divergence_guard import (
    SNAPSHOT_STEPS,
    GoodState,
    GoodStates,
    LossWatch,
    State,
    collapsed,
    fault_in,
)
from picoquant.quantization.qat.freeze import freeze_step
from picoquant.quantization.qat.step import TrainingStep
from picoquant.quantization.qat.stopping import is_over
from picoquant.quantization.score import Score
from picoquant.storage.csv_log import CsvLog
from picoquant.utils.signals import DeferredSignals

LOG = logging.getLogger("picoquant")

_LOG_FIELDS = ("step", "loss", "lr", "mAP", "fidelity")

Batches = Callable[[int], Any]


class _DivergedError(Exception):
    """What is wrong; `evaluated` where an evaluation showed it, so that only an evaluated state is good."""

    def __init__(self, why: str, evaluated: bool = False) -> None:
        super().__init__(why)
        self.evaluated = evaluated


@dataclass
class QatTrainer:
    """Trains a student.

    Attributes:
        context: of the quantisation. All processes run this; rank 0 alone writes.
        step: trains on a batch.
        checkpoints: where the state is kept.
        measure: evaluates the INT8 model of a state; None: nothing is evaluated.
    """

    context: QuantizationContext
    step: TrainingStep
    checkpoints: Checkpoints
    measure: Callable[[State], Score] | None

    def __post_init__(self) -> None:
        settings = self.context.settings
        self.settings, self.train = settings.quantization, settings.train
        self.steps = settings.train.steps(settings.steps_per_epoch)
        self._saved = time.monotonic()

    @property
    def _rate_key(self) -> str:
        return "Quantize.level_rate" if self.settings.by_levels else "TrainConfig.learning_rate"

    def state(self) -> State:
        """Everything that training continues from, by name; the student's stored tensors are among it."""
        return self.step.state()

    def restore(self, state: State, progress: QatProgress) -> None:
        """Continue from a state.

        Args:
            state: what `state` returned.
            progress: where training was, for the learning rate.
        """
        self.step.restore(state)
        self.step.rate.restore(progress.rate)
        self.step.rate.lowered = self.settings.guard_rate_factor ** len(progress.rollbacks)

    def run(self, batches: Batches, progress: QatProgress, good: GoodStates) -> QatProgress:
        """Train from where `progress` is to the end.

        A SIGINT or SIGTERM waits for the end of a step, whose state is written.

        Args:
            batches: called with the number of steps done, returns an endless iterator of batches from the next step on.
            progress: where training is; changed in place.
            good: the states to go back to; none in a fresh run.

        Returns: `progress`, at its end; the student is that of its step.

        Raises: `UserError` when training diverges and there is no calibrated start to go back to.
        """
        if good.evaluated is None:
            self._start(progress, good)
        done = False
        while not (done or progress.gave_up):
            feeds = batches(progress.step)
            try:
                self._train(feeds, progress, good)
                done = True
            except _DivergedError as fault:
                self._go_back(fault, progress, good)
            finally:
                close_batches(feeds)
        return progress

    def _start(self, progress: QatProgress, good: GoodStates) -> None:
        """Evaluate the start, and keep it."""
        state = self.state()
        fault = fault_in(state)
        if fault:
            raise UserError(f"quantisation: {fault} before the first step: check the FP32 model")
        if self.measure:
            self._measure(progress)
        good.add(self._good(progress, state), evaluated=True)
        self._save(state, progress, good)

    def _train(self, feeds: Any, progress: QatProgress, good: GoodStates) -> None:
        """Train to the end."""
        self._saved, began = time.monotonic(), progress.step
        log = self._open_log(progress.step)
        line = self.context.show("quantize", self.steps, start=progress.step)
        try:
            while progress.awaited or not self._over(progress):
                if progress.awaited:
                    line.close()
                    self._evaluate(progress, good, log)
                    continue
                fault = None
                with DeferredSignals() as signals:
                    try:
                        stop = False
                        while not (stop or progress.awaited or progress.step >= self.steps):
                            feed = next(feeds)
                            if progress.step == began:  # readers do not start equally fast
                                self.context.processes.barrier()
                            stop = self._advance(feed, progress, good, log, line, signals)
                    except _DivergedError as error:
                        fault = error
                if fault:  # raised here, where a signal that was noted has been dealt with
                    raise fault
        finally:
            line.close()

    def _over(self, progress: QatProgress) -> bool:
        return is_over(progress, self.steps, self.settings.patience, self.train)

    def _open_log(self, step: int) -> CsvLog:
        """The file with a row for each step, without those after `step`."""
        return CsvLog(self.context.paths.work / QAT_LOG, _LOG_FIELDS, step)

    def _advance(
        self,
        feed: dict[str, np.ndarray],
        progress: QatProgress,
        good: GoodStates,
        log: CsvLog,
        line: Any,
        signals: DeferredSignals,
    ) -> bool:
        """One step; whether any process was asked to stop."""
        rate = self.step.rate()
        due_by_time = time.monotonic() - self._saved >= self.context.settings.checkpoint_seconds
        frozen = progress.step >= freeze_step(self.steps, self.settings.freeze_last)
        loss, (due_by_time, stop) = self.step(feed, frozen, (due_by_time, signals.stop))
        fault = progress.watch.see(loss, self.settings.guard_rise)
        progress.step += 1
        line.update(progress.step, loss=loss, lr=rate)
        if fault:
            raise _DivergedError(fault)
        row = {"step": progress.step, "loss": loss, "lr": rate}
        last = progress.step == self.steps
        if self.measure is not None and (progress.step % self.train.eval_iter == 0 or last):
            progress.awaited = row
        else:
            log.write(**row)
        self._keep(progress, good, due_by_time or stop)
        if stop:
            LOG.info("quantize: stopped after step %d, which is saved", progress.step)
        return stop

    def _evaluate(self, progress: QatProgress, good: GoodStates, log: CsvLog) -> None:
        """Evaluate the step that awaits it, write its row, keep its state."""
        self._measure(progress)
        row, progress.awaited = progress.awaited, {}
        found = progress.evaluations[-1]
        log.write(**row, mAP=found.mAP, **({} if found.fidelity is None else {"fidelity": found.fidelity}))
        state = self.state()
        good.add(self._good(progress, state), evaluated=True)
        self._save(state, progress, good)

    def _keep(self, progress: QatProgress, good: GoodStates, now: bool) -> None:
        """Keep the state where that is due, in memory or on disk.

        It is written before an evaluation, which may take long, and once more with the evaluation's result.
        """
        write = now or bool(progress.awaited) or progress.step == self.steps
        snapshot = not progress.awaited and progress.step % SNAPSHOT_STEPS == 0
        if not (snapshot or write):
            return
        state = self.state()
        fault = fault_in(state)
        if fault:
            raise _DivergedError(fault)
        if snapshot:
            good.add(self._good(progress, state), evaluated=False)
        if write:
            self._save(state, progress, good)

    def _good(self, progress: QatProgress, state: State) -> GoodState:
        return GoodState.of(progress.step, state, self.step.rate.state(), progress.watch)

    def _save(self, state: State, progress: QatProgress, good: GoodStates) -> None:
        progress.rate = self.step.rate.state()
        if self.context.processes.is_rank_0:
            self.checkpoints.save(state, progress, good)
        self._saved = time.monotonic()

    def _measure(self, progress: QatProgress) -> None:
        """Evaluate; the first evaluation is the start's, and always the best so far."""
        state = self.state()
        fault = fault_in(state)
        if fault:
            raise _DivergedError(fault)
        found, best = self.measure(state), progress.best
        fault = collapsed(found.mAP, None if best is None else best.mAP, self.settings.guard_collapse)
        if fault:
            raise _DivergedError(fault, evaluated=True)
        progress.evaluations.append(Evaluated(progress.step, found.mAP, found.fidelity))
        if best is None or found.worth > best.worth:
            progress.best_step = progress.step
            if self.context.processes.is_rank_0:
                self.checkpoints.save_best(state, progress.step)
        LOG.info(
            "quantize: INT8 mAP %s after step %d; best %s after step %d",
            found,
            progress.step,
            progress.best,
            progress.best_step,
        )

    def _go_back(self, fault: _DivergedError, progress: QatProgress, good: GoodStates) -> None:
        """To the last good state with a lower learning rate, or for good."""
        target, rate, settings = good.go_back(fault.evaluated), self.step.rate, self.settings
        found = f"{fault} at step {progress.step} with learning rate {rate():g}"
        progress.gave_up = len(progress.rollbacks) >= settings.guard_tries
        if progress.gave_up and target.step == 0 and not self.context.settings.calibration_batches:
            raise UserError(
                f"quantisation diverged: {found}, and there is no calibrated start to keep; lower "
                f"{self._rate_key} and run again"
            )
        if not progress.gave_up:
            progress.rollbacks.append({"step": progress.step, "to": target.step, "why": str(fault)})
        progress.step, progress.watch, progress.awaited = target.step, LossWatch(**target.watch), {}
        progress.evaluations = [one for one in progress.evaluations if one.step <= target.step]
        progress.rate = dict(target.rate)
        self.restore(target.state, progress)
        if progress.gave_up:
            LOG.warning(
                "quantize: diverged: %s; given up after %d tries (Quantize.guard_tries), the best model so far "
                "is kept; lower %s",
                found,
                settings.guard_tries,
                self._rate_key,
            )
        else:
            LOG.warning(
                "quantize: diverged: %s; back to step %d, learning rate x %g = %g (try %d of %d)",
                found,
                target.step,
                settings.guard_rate_factor,
                rate(),
                len(progress.rollbacks),
                settings.guard_tries,
            )
        self._open_log(progress.step)  # drops the rows of the steps that are undone
        self._save(target.state, progress, good)
