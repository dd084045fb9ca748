"""The learning rate of every step, equal to PaddleDetection's, and the linear rule for other batch sizes.

Sources: PaddleDetection 2.6, ppdet/optimizer/optimizer.py, which lists every step's rate; here the rate of a
single step is computed. Linear rule: Goyal et al., Accurate, Large Minibatch SGD,
https://arxiv.org/abs/1706.02677. PaddleDetection publishes the rates of PicoDet for 4 GPUs with
`TrainReader.batch_size` images each.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace

from picoquant.training.settings import (
    CosineDecay,
    ExpWarmup,
    LearningRate,
    PiecewiseDecay,
    TrainSettings,
    Warmup,
)

LOG = logging.getLogger("picoquant")

PUBLISHED_GPUS = 4
_STILL_HIGH = 0.5  # part of base_lr at the end of a training that was hardly meant
_NEARLY_ALL = 0.9  # of the epochs


def learning_rate(settings: LearningRate, step: int, steps_per_epoch: int) -> float:
    """The learning rate of step `step`, counted from 0."""
    warmup, decay, base = settings.warmup, settings.decay, settings.base_lr
    warm_steps = warmup_steps(warmup, steps_per_epoch) if warmup else 0
    if warmup and step < warm_steps:
        return base * _warm_factor(warmup, step / warm_steps)
    if isinstance(decay, PiecewiseDecay):
        return _piecewise(decay, base, step, steps_per_epoch)
    return _cosine(decay, base, step, steps_per_epoch, warm_steps)


def warmup_steps(warmup: Warmup, steps_per_epoch: int) -> int:
    """Length of a warm-up in steps, at least 1."""
    steps = warmup.steps if warmup.epochs is None else warmup.epochs * steps_per_epoch
    return max(steps, 1)


def _warm_factor(warmup: Warmup, done: float) -> float:
    if isinstance(warmup, ExpWarmup):
        return done**warmup.power
    return warmup.start_factor * (1 - done) + done


def _piecewise(decay: PiecewiseDecay, base: float, step: int, steps_per_epoch: int) -> float:
    rates = decay.values or (base, *(base * factor for factor in decay.factors))
    return rates[bisect_right([epoch * steps_per_epoch for epoch in decay.milestones], step)]


def _cosine(decay: CosineDecay, base: float, step: int, steps_per_epoch: int, warm_steps: int) -> float:
    total, least = decay.max_epochs * steps_per_epoch, base * decay.min_lr_ratio
    if warm_steps >= total:
        return base
    step = min(step, total - 1)
    falling = total - decay.last_plateau_epochs * steps_per_epoch
    if step >= falling:
        return least
    part = (step - warm_steps) / (falling - warm_steps)
    return least + (base - least) * 0.5 * (math.cos(part * math.pi) + 1)


def tell_where_it_ends(
    settings: LearningRate, epochs: int, steps_per_epoch: int, others: Mapping[str, int]
) -> None:
    """Warn where a training is much shorter or longer than its schedule: `epoch` alone shortens nothing else.

    Args:
        settings: of the rate.
        epochs: of the training.
        steps_per_epoch: its steps.
        others: key -> epoch from which on something else is done.
    """
    base, total, decay, warmup = settings.base_lr, epochs * steps_per_epoch, settings.decay, settings.warmup
    if not base:
        return
    if warmup and warmup_steps(warmup, steps_per_epoch) >= total:
        LOG.warning(
            "train: the warm-up takes %d steps and the training has %d, so that base_lr %g is never reached: give %s "
            "fewer steps",
            warmup_steps(warmup, steps_per_epoch),
            total,
            base,
            type(warmup).__name__,
        )
    last = learning_rate(settings, total - 1, steps_per_epoch) / base
    cosine = isinstance(decay, CosineDecay)
    ends = decay.max_epochs if isinstance(decay, CosineDecay) else max(decay.milestones, default=0)
    named = f"{type(decay).__name__}.{'max_epochs' if cosine else 'milestones'}"
    if ends >= epochs and last > _STILL_HIGH:
        LOG.warning(
            "train: epoch is %d and %s %d, so that the rate ends at %.2g of base_lr %g: set both, for a training ends "
            "best at a low rate%s",
            epochs,
            named,
            ends,
            last,
            base,
            "".join(
                f"; {key} {epoch} is not reached either" for key, epoch in others.items() if epoch > epochs
            ),
        )
    elif cosine and ends < _NEARLY_ALL * epochs:
        LOG.warning(
            "train: epoch is %d and %s %d, so that the last %d epochs have %.2g of base_lr %g: set both",
            epochs,
            named,
            ends,
            epochs - ends,
            last,
            base,
        )


def by_linear_rule(settings: TrainSettings, batch_size: int, devices: int) -> TrainSettings:
    """The settings with their learning rates scaled for these devices; the rate is logged.

    Args:
        settings: `reference_batch` is the number of images per update that its rates are meant for; with
            None the rates are not changed.
        batch_size: images per step on one device.
        devices: number of devices.
    """
    images = batch_size * devices * settings.accumulate_steps
    base, reference = settings.learning_rate.base_lr, settings.reference_batch
    what = f"{images} images an update ({devices} x {batch_size}" + (
        f", {settings.accumulate_steps} steps)" if settings.accumulate_steps > 1 else ")"
    )
    if reference is None:
        LOG.info("train: base_lr %g as it is, %s", base, what)
        return settings
    used = base * images / reference
    LOG.info("train: base_lr %g = %g x %d / %d, %s", used, base, images, reference, what)
    decay = settings.learning_rate.decay
    scaled = settings.learning_rate.schedulers
    if isinstance(decay, PiecewiseDecay) and decay.values is not None:
        other = replace(decay, values=tuple(value * images / reference for value in decay.values))
        scaled = tuple(other if scheduler is decay else scheduler for scheduler in scaled)
    return replace(settings, learning_rate=replace(settings.learning_rate, base_lr=used, schedulers=scaled))


def hint_at_reference(images: int, base_lr: float, published: tuple[float, int] | None) -> None:
    """Log a warning when a published rate is used with at most half of the images it is meant for.

    Args:
        images: number of images per update.
        base_lr: the configuration's learning rate.
        published: rate and `TrainReader.batch_size` of the published configuration; None if there is none.
    """
    if published is None or base_lr != published[0]:
        return
    reference = PUBLISHED_GPUS * published[1]
    if 2 * images <= reference:
        LOG.warning(
            "train: base_lr %g is published for %d GPUs x %d = %d images, an update here has %d; "
            "--set Train.reference_batch=%d scales it to %g",
            base_lr,
            PUBLISHED_GPUS,
            published[1],
            reference,
            images,
            reference,
            base_lr * images / reference,
        )
