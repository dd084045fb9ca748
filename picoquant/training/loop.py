"""The training loop: resumable at any step, reproducible bit for bit on one machine."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Callable, Protocol

import numpy as np
import paddle
from paddle import nn

from picoquant.detector.weights import save_weights
from picoquant.errors import PicoquantError
from picoquant.storage.checkpoints import Checkpoint, Checkpoints, array_bytes, packed, unpacked
from picoquant.storage.csv_log import CsvLog
from picoquant.training.fast import FastLayers, fast_convolutions_available, tuned_cpu
from picoquant.training.finite import DivergedError, first_not_finite
from picoquant.training.freezing import freeze, train_mode
from picoquant.training.joint_batch_norm.layer import synchronised
from picoquant.training.onednn.library import Kind
from picoquant.training.optimizer import optimizer_step
from picoquant.training.result import BEST, EVALUATIONS, LAST, METRICS, TrainResult
from picoquant.training.scalar_log import ScalarLog, ScalarSettings
from picoquant.training.schedule import by_linear_rule, learning_rate
from picoquant.training.settings import CHECKPOINTS, TrainSettings, check_precision
from picoquant.training.state import Masks, Position, TrainState, arrays_of, temporary_weights
from picoquant.utils.process_group import Group
from picoquant.utils.progress import Progress
from picoquant.utils.signals import DeferredSignals

LOG = logging.getLogger("picoquant")

Evaluate = Callable[[nn.Layer, int], Mapping[str, float]]

_GROUPS = {METRICS: "train", EVALUATIONS: "evaluation"}  # tag group in VisualDL
_INPUTS = ("image", "gt_bbox", "gt_class", "pad_gt_mask")
_EPOCH_SECONDS = 10.0  # no checkpoint at the end of an epoch sooner than this after the last one
_SEED_STRIDE = 1_000_003  # a prime: two seeds do not result in the same random numbers a few steps apart
_SMOOTHING = 0.9  # weight of earlier steps in the speed that is shown


class Reader(Protocol):
    """Interface to the batches; implemented by `picoquant.data.readers.reader.TrainReader`."""

    batch_size: int
    steps_per_epoch: int

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Mapping[str, np.ndarray]]:
        """Batches of an epoch from step `start_step` on; every call with equal arguments yields the same."""


def train(
    model: nn.Layer,
    reader: Reader,
    settings: TrainSettings,
    work_dir: Path,
    evaluate: Evaluate | None = None,
    scalars: ScalarSettings | None = None,
    masks: Masks | None = None,
) -> TrainResult:
    """Train a detector, or continue a training that was interrupted.

    In a group of processes (`paddle.distributed.launch`) each process passes its own reader, and all end
    with the same weights; only the process of rank 0 writes and logs. All evaluate, so that they may share the images.

    Two runs with the same seed on the same machine end with the same weights, interrupted or not. A SIGINT
    or SIGTERM is deferred to the end of an update; then a checkpoint is written and the signal is passed on
    to its previous handler.

    Args:
        model: a `PicoDet`, its weights are where training starts; or a `distillation.student.Student`, whose
            network alone is evaluated and written.
        reader: yields batches with `image`, `gt_bbox`, `gt_class`, `pad_gt_mask`, see `PicoDet.loss`.
        settings: how to train.
        work_dir: folder for checkpoints, weights and metrics; if it holds checkpoints of a training with
            the same settings, that training is continued.
        evaluate: `(network, epoch from 0) -> metrics`, among them `settings.save_best`; the network has the averaged
            weights and is in evaluation mode. None: the last weights count as the best.
        scalars: logs of the metrics beside the CSV files; None: none.
        masks: weights that are held at 0; None: none.

    Raises: `ConfigError` for mixed precision on CPU, or for `scalars` without its package;
        `DivergedError` when the loss is not finite; what `reader` and `evaluate` raise; `UserError` when
        the disk is full or cannot be written.
    """
    if paddle.is_compiled_with_cuda():
        paddle.set_flags({"FLAGS_cudnn_deterministic": True})
    check_precision(settings.amp, paddle.get_device())
    group = Group()
    if settings.sync_bn and group.world > 1:
        model = synchronised(model, group)
    freeze(model, settings)
    settings = by_linear_rule(settings, reader.batch_size, group.world)
    return _Training(model, reader, settings, Path(work_dir), evaluate, scalars, masks, group).run()


class _Training:
    def __init__(
        self,
        model: nn.Layer,
        reader: Reader,
        settings: TrainSettings,
        work_dir: Path,
        evaluate: Evaluate | None,
        scalars: ScalarSettings | None,
        masks: Masks | None,
        group: Group,
    ) -> None:
        self._group = group
        self._model, self._reader, self._settings = model, reader, settings
        self._network = getattr(model, "student", model)  # without what is there for training alone
        self._work_dir, self._evaluate = work_dir, evaluate
        self._per_epoch = reader.steps_per_epoch
        self._total = settings.epochs * self._per_epoch
        self._state = TrainState(model, settings, self._per_epoch, masks)
        self._checkpoints = Checkpoints(work_dir / CHECKPOINTS, settings.keep_checkpoints)
        self._logs: dict[str, CsvLog] = {}
        self._scalar_settings = scalars
        self._scalars: ScalarLog | None = None
        self._saved = time.monotonic()
        self._images, self._seconds, self._speed = 0, 0.0, 0.0
        self._layers: FastLayers | None = None

    def run(self) -> TrainResult:
        """Train to the end."""
        position = self._resume()
        self._resumed = {METRICS: position.step, EVALUATIONS: position.evaluated}
        LOG.info(
            "train: %d epochs of %d steps, %d images a step; the first step may take 20 s",
            self._settings.epochs,
            self._per_epoch,
            self._reader.batch_size * self._group.world,
        )
        self._line = Progress("train", self._total, start=position.step)
        self._line.update(position.step)
        if self._settings.fast_convolutions and fast_convolutions_available():
            joint = self._settings.sync_bn and self._group.world > 1
            self._layers = FastLayers(
                self._model,
                precision=Kind.BF16 if self._settings.amp else Kind.F32,
                group=self._group if joint else None,
            )
        with ExitStack() as stack:
            stack.callback(self._line.close)
            if self._scalar_settings and self._group.is_rank_0:
                earlier = [
                    (_GROUPS[name], self._work_dir / name, step) for name, step in self._resumed.items()
                ]
                self._scalars = stack.enter_context(ScalarLog(self._scalar_settings, earlier))
            if paddle.get_device() == "cpu":
                stack.enter_context(tuned_cpu())
            while not position.stopped and (position.step < self._total or self._evaluation_due()):
                if self._evaluation_due():
                    self._line.close()
                    self._snapshot()
                    self._stop_early()
                    self._save()
                else:
                    self._train_epoch()
        return self._result()

    def _resume(self) -> Position:
        found = self._checkpoints.newest() if self._group.is_rank_0 else None
        if found is not None and self._state.restore(found):
            step = self._state.position.step
            LOG.info("train: continuing after step %d of %d", step, self._total)
        elif found is not None:
            LOG.warning("train: the checkpoints in %s are of another training; starting anew", self._work_dir)
            found = None
        if self._group.is_rank_0:
            # Before the first step the optimiser has no state; each of its moments will be as large as the weights.
            size = array_bytes(self._state.checkpoint())
            weights = sum(value.nbytes for value in arrays_of(self._model).values())
            moments = 2 if self._settings.optimizer.has_moments else 1
            self._checkpoints.require_room(size if found else size + moments * weights)
        self._broadcast_start(found)
        return self._state.position

    def _broadcast_start(self, found: Checkpoint | None) -> None:
        """Let every process start with the weights, optimiser and position of rank 0.

        The checkpoint is broadcast, not the optimiser: a restored optimiser has its state only after a step.
        """
        if self._group.world == 1:
            return
        self._group.barrier()
        start = packed(found or self._state.checkpoint()) if self._group.is_rank_0 else None
        content = self._group.broadcast(start)
        if not self._group.is_rank_0 and not self._state.restore(unpacked(content)):
            raise PicoquantError("the processes were started with different settings or data sets")

    def _evaluation_due(self) -> bool:
        position = self._state.position
        epoch, rest = divmod(position.step, self._per_epoch)
        if rest or position.evaluated == position.step:
            return False
        return epoch % self._settings.snapshot_epoch == 0 or epoch == self._settings.epochs

    def _train_epoch(self) -> None:
        position = self._state.position
        epoch, start = divmod(position.step, self._per_epoch)
        train_mode(self._model, self._settings)
        with DeferredSignals() as signals:
            began = time.monotonic()
            for index, batch in enumerate(self._reader.epoch(epoch, start), start):
                updates = self._updates_after(index)
                if index == start:  # rank 0 may still be evaluating; data is read before waiting
                    self._group.barrier()
                if self._layers:
                    self._layers.before_step(batch["image"].shape)
                with self._layers.on() if self._layers else nullcontext():
                    values, rate, stop = self._step(batch, epoch, updates, signals.stop)
                position.step += 1
                now = time.monotonic()
                self._report(values, epoch, rate, len(batch["image"]), now - began)
                began = now
                if updates and (stop or self._checkpoint_due()):
                    self._save()
                if updates and stop:
                    LOG.info("train: stopped after step %d, which is saved", position.step)
                    return

    def _updates_after(self, index: int) -> bool:
        """Whether batch `index` of an epoch ends an update."""
        return (index + 1) % self._settings.accumulate_steps == 0 or index + 1 == self._per_epoch

    def _step(
        self, batch: Mapping[str, np.ndarray], epoch: int, updates: bool, stop: bool
    ) -> tuple[dict[str, float], float, bool]:
        """Process one batch; the losses, the learning rate, and whether any process was asked to stop."""
        settings, step = self._settings, self._state.position.step
        rate = learning_rate(settings.learning_rate, step, self._per_epoch)
        paddle.seed((settings.seed * _SEED_STRIDE + step) % 2**31)
        losses = self._losses(batch, epoch, rate)
        *means, stopping = self._group.mean([float(value.item()) for value in losses.values()] + [stop])
        values = dict(zip(losses, means))
        if not all(math.isfinite(value) for value in values.values()):
            losses_text = ", ".join(f"{name} {value:g}" for name, value in values.items())
            raise self._diverged(losses_text, rate, self._first_not_finite(batch))
        precision = self._state.precision
        precision.backward(losses["loss"] / settings.accumulate_steps)
        if updates:
            self._group.average_gradients(self._state.trained)
            optimizer_step(self._state.optimizer, rate, precision)
            if self._state.masks:
                self._state.masks.after_update()
            if self._state.ema and self._group.is_rank_0:
                self._state.ema.update()
        return values, rate, stopping > 0

    def _losses(self, batch: Mapping[str, np.ndarray], epoch: int, rate: float) -> dict[str, paddle.Tensor]:
        inputs = [paddle.to_tensor(batch[name]) for name in _INPUTS]
        try:
            with self._state.precision.forward():
                return self._model.loss(*inputs, epoch)
        except ValueError as error:  # paddle's binary cross-entropy raises it for NaN
            self._group.check()
            found = self._first_not_finite(batch)
            if found is None:
                raise
            raise self._diverged("the network's outputs are no finite numbers", rate, found) from error

    def _first_not_finite(self, batch: Mapping[str, np.ndarray]) -> str | None:
        with self._layers.off() if self._layers else nullcontext():
            return first_not_finite(self._model, paddle.to_tensor(batch["image"]))

    def _diverged(self, what: str, rate: float, where: str | None) -> DivergedError:
        base = self._settings.learning_rate.base_lr
        what = f"{what}; first in {where}" if where else what
        return DivergedError(
            f"training diverged at step {self._state.position.step + 1} with learning rate {rate:g} ({what}); "
            f"lower LearningRate.base_lr (it is {base:g}; try {base / 10:g}) and run again; the last good "
            f"checkpoint stays in {self._checkpoints.folder}"
        )

    def _checkpoint_due(self) -> bool:
        step, passed = self._state.position.step, time.monotonic() - self._saved
        every = self._settings.checkpoint_steps
        if step % self._per_epoch == 0 and (passed >= _EPOCH_SECONDS or self._evaluation_due()):
            return True
        return bool(every and step % every == 0) or passed >= 60 * self._settings.checkpoint_minutes

    def _save(self) -> None:
        if self._group.is_rank_0:
            self._checkpoints.save(self._state.position.step, self._state.checkpoint())
        self._saved = time.monotonic()

    def _report(
        self, values: Mapping[str, float], epoch: int, rate: float, images: int, seconds: float
    ) -> None:
        step = self._state.position.step
        images *= self._group.world
        self._images, self._seconds = self._images + images, self._seconds + seconds
        now = images / seconds
        self._speed = _SMOOTHING * self._speed + (1 - _SMOOTHING) * now if self._speed else now
        if not self._group.is_rank_0:
            return
        shown = {"epoch": epoch + 1, "lr": rate, **values, "images/s": self._speed}
        self._line.update(step, **shown)
        if step % self._settings.log_iter == 0 or step == self._total:
            row = {"step": step, "epoch": epoch + 1, "lr": rate, **values}
            self._write(METRICS, {**row, "images_per_second": round(self._speed, 3)})

    def _write(self, name: str, row: Mapping[str, Any]) -> None:
        """Append a row; the columns are those of the first row."""
        if name not in self._logs:
            self._logs[name] = CsvLog(self._work_dir / name, list(row), self._resumed[name])
        self._logs[name].write(**row)
        if self._scalars:
            self._scalars.write(_GROUPS[name], row)

    def _snapshot(self) -> None:
        """Write the current weights and evaluate them; write them again as the best if they are."""
        position, ema, masks = self._state.position, self._state.ema, self._state.masks
        done = position.step // self._per_epoch
        if not self._group.is_rank_0:
            if self._evaluate:
                self._evaluated(self._evaluate, {}, done)
            position.evaluated = position.step
            return
        weights = ema.weights() if ema else arrays_of(self._model)
        if masks:
            weights = masks.masked(weights)
            masks.say(weights)
        kept = {name: weights[name] for name in self._network.state_dict()}
        save_weights(kept, self._work_dir / LAST)
        if self._evaluate:
            metrics = self._evaluated(self._evaluate, weights, done)
            self._write(EVALUATIONS, {"step": position.step, "epoch": done, **metrics})
            key = self._settings.save_best
            if masks and not masks.settled:
                LOG.info("train: %s %.4f after epoch %d, before all zeros are there", key, metrics[key], done)
                position.evaluated = position.step
                return
            position.not_better += 1
            if not position.best or metrics[key] > position.best[key]:
                save_weights(kept, self._work_dir / BEST)
                position.best, position.best_epoch, position.not_better = metrics, done, 0
            LOG.info(
                "train: %s %.4f after epoch %d; best %.4f after epoch %d",
                key,
                metrics[key],
                done,
                position.best[key],
                position.best_epoch,
            )
        else:
            position.best_epoch = done
        position.evaluated = position.step

    def _evaluated(
        self, evaluate: Evaluate, weights: Mapping[str, np.ndarray], done: int
    ) -> dict[str, float]:
        """Metrics of rank 0's weights, whose average it alone has; the other processes evaluate them, too."""
        if self._group.world > 1:
            self._group.barrier()
            content = self._group.broadcast(packed(Checkpoint({"weights": dict(weights)}, {})))
            weights = unpacked(content).arrays["weights"]
        with temporary_weights(self._model, weights):
            return {name: float(value) for name, value in evaluate(self._network, done - 1).items()}

    def _stop_early(self) -> None:
        """End all processes' training where `Train.early_stop` evaluations in a row were not better."""
        position, patience = self._state.position, self._settings.early_stop
        if patience is None or position.step >= self._total:
            return
        self._group.barrier()  # rank 0 has evaluated, which takes longer than a collective operation may
        position.stopped = self._group.mean([float(position.not_better >= patience)])[0] > 0
        if position.stopped:
            LOG.info(
                "train: no better %s in %d evaluations, so training ends after epoch %d of %d (Train.early_stop)",
                self._settings.save_best,
                position.not_better,
                position.step // self._per_epoch,
                self._settings.epochs,
            )

    def _result(self) -> TrainResult:
        position = self._state.position
        return TrainResult(
            work_dir=self._work_dir,
            best_weights=self._work_dir / (BEST if position.best else LAST),
            last_weights=self._work_dir / LAST,
            metrics=position.best,
            best_epoch=position.best_epoch,
            epochs=position.step // self._per_epoch,
            steps=position.step,
            images_per_second=self._images / self._seconds if self._seconds else 0.0,
            scalar_folders=self._scalar_settings.folders if self._scalar_settings else (),
        )
