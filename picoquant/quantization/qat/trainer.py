"""The steps of QAT: resumable, never silent, taken back when they diverge."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle

from picoquant.errors import UserError
from picoquant.paddle_program.static import read_variable, state_names, write_variable
from picoquant.quantization.processes import Processes
from picoquant.quantization.qat.checkpoint import Checkpoints, QatProgress
from picoquant.quantization.qat.distributed import shared_program
from picoquant.quantization.qat.divergence_guard import (
    SNAPSHOT_STEPS,
    GoodState,
    GoodStates,
    LossWatch,
    State,
    collapsed,
    fault_in,
)
from picoquant.quantization.qat.freeze import frozen_from
from picoquant.quantization.qat.programs import QatPrograms
from picoquant.quantization.settings import OwnSettings, QatTrainSettings
from picoquant.storage.csv_log import CsvLog
from picoquant.utils.signals import DeferredSignals

LOG = logging.getLogger("picoquant")

# AutoCompression ends when the INT8 mAP is this near the FP32 one (only where origin_metric is set).
_NEAR_ENOUGH = 0.005

Batches = Callable[[int], Any]


class _DivergedError(Exception):
    """What is wrong; `evaluated` where an evaluation showed it, so that only an evaluated state is good."""

    def __init__(self, why: str, evaluated: bool = False) -> None:
        super().__init__(why)
        self.evaluated = evaluated


@dataclass
class QatTrainer:
    """Trains the programs that the compressor built.

    Attributes:
        programs: what runs.
        settings: section `TrainConfig`.
        steps: how many to train.
        checkpoints: where the state is kept.
        every: seconds between two checkpoints.
        log: called with the steps done, gives the file that gets a row for each further step.
        show: makes the line that shows progress.
        measure: mAP, 0 to 1, of the INT8 model with the given variables; None: nothing is measured.
        own: section `Quantize`.
        processes: the processes that train together; all of them run this, and the leading one alone writes.
        calibrated: whether the start has ranges that were measured, so that it is a model of its own.
    """

    programs: QatPrograms
    settings: QatTrainSettings
    steps: int
    checkpoints: Checkpoints
    every: float
    log: Callable[[int], CsvLog]
    show: Callable[..., Any]
    measure: Callable[[State], float] | None
    own: OwnSettings = field(default_factory=OwnSettings)
    calibrated: bool = True
    processes: Processes = field(default_factory=Processes)

    def __post_init__(self) -> None:
        self._scope = paddle.static.global_scope()
        self._names = state_names(self.programs.train)
        self._saved = time.monotonic()
        if self.processes.world > 1:
            self._shared = [shared_program(one) for one in (self.programs.train, self.programs.frozen)]

    def state(self) -> State:
        """Every stored variable of the training program."""
        return {name: read_variable(self._scope, name) for name in self._names}

    def restore(self, state: State, progress: QatProgress) -> None:
        """Continue from a checkpoint."""
        self._write(state)
        self.programs.rate.restore(progress.rate)
        self.programs.rate.lowered = self.own.guard_rate_factor ** len(progress.rollbacks)

    def _write(self, state: State) -> None:
        for name, value in state.items():
            write_variable(self._scope, name, value)

    def run(self, batches: Batches, progress: QatProgress, good: GoodStates) -> QatProgress:
        """Train from where `progress` is to the end.

        Args:
            batches: called with the steps done, gives batches from the next one on, without end.
            progress: where training is.
            good: the states to go back to; none of a fresh run.

        Returns: `progress`, at its end; the variables in scope are those of its step.

        A SIGINT or SIGTERM waits for the end of a step, whose state is written.

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
        log = self.log(progress.step)
        line = self.show("quantize", self.steps, start=progress.step)
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
                                self.processes.barrier()
                            stop = self._advance(feed, progress, good, log, line, signals)
                    except _DivergedError as error:
                        fault = error
                if fault:  # raised here, where a signal that was noted has been dealt with
                    raise fault
        finally:
            line.close()

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
        rate = self.programs.rate()
        due_by_time = time.monotonic() - self._saved >= self.every
        frozen = progress.step >= frozen_from(self.steps, self.own.freeze_last)
        loss, due_by_time, stop = self._step(feed, frozen, (due_by_time, signals.stop))
        fault = progress.watch.see(loss, self.own.guard_rise)
        progress.step += 1
        line.update(progress.step, loss=loss, lr=rate)
        if fault:
            raise _DivergedError(fault)
        row = {"step": progress.step, "loss": loss, "lr": rate}
        if self._evaluation_due(progress):
            progress.awaited = row
        else:
            log.write(**row)
        self._keep(progress, good, due_by_time or stop)
        if stop:
            LOG.info("quantize: stopped after step %d, which is saved", progress.step)
        return stop

    def _evaluation_due(self, progress: QatProgress) -> bool:
        last = progress.step == self.steps
        return self.measure is not None and (progress.step % self.settings.eval_iter == 0 or last)

    def _evaluate(self, progress: QatProgress, good: GoodStates, log: CsvLog) -> None:
        """Evaluate the step that awaits it, write its row, keep its state."""
        self._measure(progress)
        row, progress.awaited = progress.awaited, {}
        log.write(**row, mAP=progress.evaluations[-1][1])
        state = self.state()
        good.add(self._good(progress, state), evaluated=True)
        self._save(state, progress, good)

    def _step(self, feed: dict[str, np.ndarray], frozen: bool, flags: Sequence[bool]) -> tuple[Any, ...]:
        """The loss, and of each flag whether it is set in any process."""
        programs = self.programs
        program = programs.frozen if frozen else programs.train
        inputs = {name: feed[name] for name in programs.feeds}
        inputs.update(programs.teacher(feed))
        programs.rate.set_for_step(self._scope)
        if self.processes.world > 1:
            shared = self._shared[frozen]
            loss, *flags = shared.run(
                self.processes, programs.executor, self._scope, inputs, programs.loss, flags
            )
        else:
            found = programs.executor.run(program, feed=inputs, fetch_list=[programs.loss])[0]
            loss = float(np.asarray(found).reshape(-1)[0])
        programs.rate.step()
        return (loss, *flags)

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
        return GoodState.of(progress.step, state, self.programs.rate.state(), progress.watch)

    def _save(self, state: State, progress: QatProgress, good: GoodStates) -> None:
        progress.rate = self.programs.rate.state()
        if self.processes.is_rank_0:
            self.checkpoints.save(state, progress, good)
        self._saved = time.monotonic()

    def _measure(self, progress: QatProgress) -> None:
        """Evaluate; the first evaluation is the start's, and always the best so far."""
        state = self.state()
        fault = fault_in(state)
        if fault:
            raise _DivergedError(fault)
        value = float(self.measure(state))
        best = progress.best
        fault = collapsed(value, best, self.own.guard_collapse)
        if fault:
            raise _DivergedError(fault, evaluated=True)
        progress.evaluations.append((progress.step, value))
        if best is None or value > best:
            progress.best_step = progress.step
            if self.processes.is_rank_0:
                self.checkpoints.save_best(state, progress.step)
        LOG.info(
            "quantize: INT8 mAP %.4f after step %d; best %.4f after step %d",
            value,
            progress.step,
            progress.best,
            progress.best_step,
        )

    def _go_back(self, fault: _DivergedError, progress: QatProgress, good: GoodStates) -> None:
        """To the last good state with a lower learning rate, or for good."""
        target, rate, own = good.go_back(fault.evaluated), self.programs.rate, self.own
        found = f"{fault} at step {progress.step} with learning rate {rate():g}"
        progress.gave_up = len(progress.rollbacks) >= own.guard_tries
        if progress.gave_up and target.step == 0 and not self.calibrated:
            raise UserError(
                f"quantisation diverged: {found}, and there is no calibrated start to keep; lower "
                "TrainConfig.learning_rate and run again"
            )
        if not progress.gave_up:
            progress.rollbacks.append({"step": progress.step, "to": target.step, "why": str(fault)})
        progress.step, progress.watch, progress.awaited = target.step, LossWatch(**target.watch), {}
        progress.evaluations = [pair for pair in progress.evaluations if pair[0] <= target.step]
        progress.rate = dict(target.rate)
        self.restore(target.state, progress)
        if progress.gave_up:
            LOG.warning(
                "quantize: diverged: %s; given up after %d tries (Quantize.guard_tries), the best model so far "
                "is kept; lower TrainConfig.learning_rate",
                found,
                own.guard_tries,
            )
        else:
            LOG.warning(
                "quantize: diverged: %s; back to step %d, learning rate x %g = %g (try %d of %d)",
                found,
                target.step,
                own.guard_rate_factor,
                rate(),
                len(progress.rollbacks),
                own.guard_tries,
            )
        self.log(progress.step)  # drops the rows of the steps that are undone
        self._save(target.state, progress, good)

    def _over(self, progress: QatProgress) -> bool:
        return progress.step >= self.steps or self._out_of_patience(progress) or self._reached(progress)

    def _out_of_patience(self, progress: QatProgress) -> bool:
        patience = self.own.patience
        if patience is None or not progress.evaluations:
            return False
        if len([step for step, _ in progress.evaluations if step > progress.best_step]) < patience:
            return False
        LOG.info(
            "quantize: %d evaluations without a better mAP than %.4f of step %d (Quantize.patience); done",
            patience,
            progress.best,
            progress.best_step,
        )
        return True

    def _reached(self, progress: QatProgress) -> bool:
        """Whether training has made the mAP that is asked for."""
        if not progress.evaluations or progress.best_step == 0:
            return False
        target, original = self.settings.target_metric, progress.original_metric
        if target is not None and progress.best > target:
            LOG.info("quantize: mAP %.4f is above target_metric %.4f; done", progress.best, target)
            return True
        if original and abs(progress.best - original) / original <= _NEAR_ENOUGH:
            LOG.info("quantize: mAP %.4f is within 0.5 %% of FP32's %.4f; done", progress.best, original)
            return True
        return False


def close_batches(source: Any) -> None:
    """End a generator now, so that what it holds (worker processes) is free."""
    if hasattr(source, "close"):
        source.close()
