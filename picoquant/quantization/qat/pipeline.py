"""QAT on top of a prepared network: build student and teacher, train, take the best state, write it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np

from picoquant.errors import PicoquantError, UserError
from picoquant.quantization.accuracy_control.control import control_accuracy
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.engine.feeds import images_that_fit
from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.quantization.ptq.observers import NotFiniteError
from picoquant.quantization.ptq.passes.write import write
from picoquant.quantization.ptq.pipeline import SCALES, run_passes
from picoquant.quantization.ptq.range_search import without_zeros
from picoquant.quantization.ptq.state import PtqState
from picoquant.quantization.qat.checkpoint import Checkpoints, QatProgress
from picoquant.quantization.qat.divergence_guard import GoodStates, State
from picoquant.quantization.qat.learned_ranges.choose import range_strategy
from picoquant.quantization.qat.learning_rate import LearningRate, linear_scale, warm_cosine
from picoquant.quantization.qat.level_optimizer import LevelOptimizer, levels_of
from picoquant.quantization.qat.objective import ConfiguredObjective, DetectionObjective, Objective
from picoquant.quantization.qat.optimisers import make_optimizer, make_schedule
from picoquant.quantization.qat.ranges import (
    ObservedRanges,
    initialise_ranges,
    trained_ranges,
)
from picoquant.quantization.qat.step import TrainingStep
from picoquant.quantization.qat.student import Student, open_student
from picoquant.quantization.qat.teacher import Teacher
from picoquant.quantization.qat.trainer import QatTrainer
from picoquant.quantization.score import Score
from picoquant.storage.checkpoints import packed, unpacked
from picoquant.utils.device import free_memory
from picoquant.utils.progress import duration

LOG = logging.getLogger("picoquant")

# PaddleSlim refuses a model whose mAP is further than this from origin_metric.
_ORIGIN_TOLERANCE = 0.05


def run_qat(network: PtqState, batches: Callable[[int], Any], began: float) -> dict[str, Any]:
    """Train a prepared network and write the INT8 model of its best state.

    Args:
        network: the prepared network, see `ptq.prepare`; with ranges in rank 0 only.
        batches: called with the number of steps done, returns an endless iterator of feeds.
        began: `time.monotonic()` at the start of the quantisation.

    Returns: the metrics; empty in processes other than rank 0.
    """
    context = network.context
    step = _build(network)
    fixed = context.settings.quantization.by_levels
    observed = None if fixed else ObservedRanges(context, network.ranges)
    checkpoints = Checkpoints(context.paths.work, context.fingerprint)
    measure = _measure(network, step.student, observed) if context.metric else None
    trainer = QatTrainer(context, step, checkpoints, measure)
    progress, good = _start(network, trainer, observed)
    setup = time.monotonic() - began
    LOG.info(
        "quantize: ready after %s: %d operators in INT8; step %d of %d",
        duration(setup),
        len(network.operators),
        progress.step,
        trainer.steps,
    )
    trainer.run(batches, progress, good)
    if not context.processes.is_rank_0:
        return {}
    _restore_best(trainer, progress)
    ranges = without_zeros(_present_ranges(network, step.student, observed))
    mixed = _write(network, ranges, trainer.state(), progress)
    return _metrics(progress, len(network.operators), setup, mixed)


def _build(network: PtqState) -> TrainingStep:
    context, settings = network.context, network.context.settings
    LOG.info("quantize: reading the model and finding what to distil")
    by_levels = settings.quantization.by_levels
    zeros = context.processes.broadcast(json.dumps(dict(network.zero_points)).encode())
    strategy = range_strategy(settings.quantization, settings.quant, json.loads(zeros))
    student = open_student(
        context.paths.student,
        network.operators,
        network.quant,
        strategy,
        context.convolutions,
        all_held=by_levels,
    )
    if by_levels:
        student = replace(student, factors={})  # levels are of the equalised weights
        objective, rate, optimizer = _by_levels(network, student)
    else:
        objective = ConfiguredObjective(student, settings.distillation)
        _warn_of_memory(student, settings.batch_size)
        optimizer, rate = partial(make_optimizer, settings.train), _configured_rate(context)
    LOG.info("quantize: preparing the teacher")
    teacher = Teacher(
        context.paths.teacher, objective.teacher_names, context.paths.copies / "distilled", context.config
    )
    return TrainingStep(student, teacher, objective, optimizer, strategy, rate, context.processes)


def _warn_of_memory(student: Student, images: int | None) -> None:
    """Say so when a step, whose images all go through the network at once, may need more memory than is free."""
    free = free_memory()
    fit = None if free is None else images_that_fit(student.graph, free)
    if images and fit is not None and images > fit:
        LOG.warning(
            "quantize: a step of %d images may need more memory than is free now, which is enough for %d or some more: "
            "--set Calibration.batch_size=%d, or Quantize.training=levels, which runs a step in parts",
            images,
            fit,
            max(1, fit),
        )


def _configured_rate(context: QuantizationContext) -> LearningRate:
    settings, scale = context.settings, 1.0
    schedule = make_schedule(settings.train)
    if settings.batch_size:
        scale = linear_scale(
            settings.batch_size, context.processes.world, settings.quantization.reference_batch
        )
    return LearningRate(schedule, scale)


def _by_levels(network: PtqState, student: Student) -> tuple[Objective, LearningRate, Callable[..., Any]]:
    """What `Quantize.training: levels` takes in place of the sections' loss, rate and optimiser."""
    context, settings = network.context, network.context.settings
    LOG.info(
        "quantize: training by levels: Distillation's loss, node and alpha, QuantAware.use_pact and TrainConfig's "
        "learning_rate and optimizer_builder are not used"
    )
    steps = settings.train.steps(settings.steps_per_epoch)
    ranges = context.processes.broadcast(json.dumps(dict(network.ranges)).encode())
    error = DetectionError(student.network, context.config, of_scores=True)
    quant = network.quant
    levels = levels_of(student, json.loads(ranges), (quant.weight_bits, quant.activation_bits))
    schedule = warm_cosine(settings.quantization.level_rate, steps)
    return DetectionObjective(error), LearningRate(schedule), partial(LevelOptimizer, levels=levels)


def _start(
    network: PtqState, trainer: QatTrainer, observed: ObservedRanges | None
) -> tuple[QatProgress, GoodStates]:
    """Where all processes start: at rank 0's checkpoint, or its calibrated ranges."""
    processes, checkpoints = network.context.processes, trainer.checkpoints
    if not processes.is_rank_0:
        found = checkpoints.of_checkpoint(unpacked(processes.broadcast(None)))
        if found is None:
            raise PicoquantError("the processes were started with different settings or models")
    else:
        found = checkpoints.load()
        if found is not None:
            LOG.info("quantize: continuing after step %d of an interrupted run", found[1].step)
    if found is not None:
        state, progress, good = found
        trainer.restore(state, progress)
    else:
        progress, good = QatProgress(original_metric=_original_metric(network.context)), GoodStates()
        if network.ranges:
            initialise_ranges(trainer.step.student, network.ranges)
            if observed is not None:
                observed.start(trainer.step.student, network.tensors)
    if processes.is_rank_0 and processes.world > 1:
        processes.broadcast(packed(checkpoints.checkpoint(trainer.state(), progress, good)))
    return progress, good


def _original_metric(context: QuantizationContext) -> float | None:
    """mAP of the FP32 model, measured where `origin_metric` asks for it.

    Raises: `UserError` when it is not what `origin_metric` says.
    """
    expected = context.settings.train.origin_metric
    if context.metric is None or expected is None:
        return None
    LOG.info("quantize: evaluating the FP32 model, which TrainConfig.origin_metric describes")
    value = context.metric.of_folder(context.paths.student).mAP
    if abs(value - expected) > _ORIGIN_TOLERANCE:
        raise UserError(
            f"TrainConfig.origin_metric is {expected:g} but the FP32 model reaches {value:.4f} on the "
            "evaluation images: correct origin_metric, or the images and how they are prepared"
        )
    return value


def _present_ranges(
    network: PtqState, student: Student, observed: ObservedRanges | None
) -> Mapping[str, float]:
    """The ranges of all activations; the calibrated ones where none moves (`observed` is None then)."""
    return network.ranges if observed is None else observed.measure(student, network.tensors)


def _measure(
    network: PtqState, student: Student, observed: ObservedRanges | None
) -> Callable[[State], Score]:
    """A function that evaluates the very model that would be written: any other form rounds a little differently.

    All processes get what rank 0 found, so that they decide the same.
    """
    context = network.context

    def of_rank_0(weights: State) -> Score:
        try:
            ranges = without_zeros(_present_ranges(network, student, observed), say=False)
        except NotFiniteError as error:
            LOG.warning("quantize: %s; its mAP counts as 0", error)
            return Score(0.0)
        state = run_passes(SCALES, _trained(network, ranges, weights))
        return context.metric.of_int8(state.int8_source(), context.paths.candidate)

    def measure(weights: State) -> Score:
        if not context.processes.is_rank_0:
            return Score(**json.loads(context.processes.broadcast(None)))
        found = of_rank_0(weights)
        context.processes.broadcast(json.dumps(asdict(found)).encode())
        return found

    return measure


def _trained(network: PtqState, ranges: Mapping[str, float], weights: Mapping[str, np.ndarray]) -> PtqState:
    """The network as training has left it.

    Args:
        network: the prepared network.
        ranges: of all activations, as observed.
        weights: the state of training, which holds the operators' ranges too.
    """
    trained = trained_ranges(network.operators, weights)
    return replace(
        network,
        ranges={**ranges, **trained},
        learned=frozenset(trained),
        weights=weights,
        float_params={},  # a layer that goes to float takes what training has made of its weights
    )


def _restore_best(trainer: QatTrainer, progress: QatProgress) -> None:
    """Go back to the state of the best evaluation; without evaluations the last stays.

    Raises: `PicoquantError` when they are gone from the work folder.
    """
    if progress.best_step in (None, progress.step):
        return
    best = trainer.checkpoints.load_best(progress.best_step)
    if best is None:
        raise PicoquantError(
            f"the weights of step {progress.best_step} are gone from {trainer.context.paths.work}; delete that "
            "folder and run again"
        )
    trainer.restore(best, progress)


def _write(
    network: PtqState,
    ranges: Mapping[str, float],
    weights: Mapping[str, np.ndarray],
    progress: QatProgress,
) -> dict[str, Any]:
    """Write the INT8 model of a trained state, with layers in float as the settings ask; metrics are returned."""
    context = network.context
    state = run_passes((*SCALES, write), _trained(network, ranges, weights))
    best = progress.best.mAP if progress.evaluations else None
    metrics, source = control_accuracy(context, state.int8_source(), best, state.float_params)
    if context.metric:
        metrics["every_tensor_mAP"] = context.metric.of_every_tensor(
            source, context.paths.full_integer, metrics.get("mAP", best)
        )
    return metrics


def _metrics(progress: QatProgress, operators: int, setup: float, mixed: Mapping[str, Any]) -> dict[str, Any]:
    """What `QuantizeResult.metrics` says of a training.

    Args:
        progress: at its end.
        operators: number of operators in INT8 during training.
        setup: seconds from the start to the first step.
        mixed: what accuracy control and the full-integer simulation add; wins over the rest.
    """
    metrics: dict[str, Any] = {
        "steps": progress.step,
        "quantized_operators": operators,
        "setup_seconds": round(setup, 1),
    }
    if progress.evaluations:
        metrics.update(
            mAP=progress.best.mAP,
            best_step=progress.best_step,
            evaluations=[[value for value in one if value is not None] for one in progress.evaluations],
        )
    metrics.update(mixed)
    if progress.original_metric is not None:
        metrics["fp32_mAP"] = progress.original_metric
    if progress.rollbacks:
        metrics["rollbacks"] = progress.rollbacks
    if progress.gave_up:
        metrics["gave_up"] = True
    return metrics
