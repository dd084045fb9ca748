"""The learning rate of every step, equal to PaddleDetection's.

Source: PaddleDetection 2.6, ppdet/optimizer/optimizer.py, which lists every step's rate; here the rate
of a single step is computed.
"""

from __future__ import annotations

import math
from bisect import bisect_right

from picoquant.training.settings import CosineDecay, ExpWarmup, LearningRate, PiecewiseDecay, Warmup


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
