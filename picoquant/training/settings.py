"""Settings of training, with PaddleDetection's names and defaults.

Source of names and defaults: PaddleDetection 2.6, ppdet/optimizer/optimizer.py and ema.py. Every
message starts with the configuration key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Union

from picoquant.errors import ConfigError

# Name -> its own keys of `OptimizerBuilder.optimizer`.
OPTIMIZERS = {
    "Momentum": ("momentum", "use_nesterov"),
    "SGD": (),
    "Adam": ("beta1", "beta2", "epsilon"),
    "AdamW": ("beta1", "beta2", "epsilon", "weight_decay"),
}
CHECKPOINTS = "checkpoints"  # their folder, in the one that a training works in
EMA_DECAY_TYPES = ("threshold", "normal", "exponential")


def _require(condition: bool, key: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{key}: {value!r} is not {expected}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _at_least(value: Any, least: float) -> bool:
    return _number(value) and value >= least


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


@dataclass(frozen=True)
class CosineDecay:
    """Half a cosine from the base learning rate to `min_lr_ratio` of it.

    Attributes:
        max_epochs: epochs until the minimum is reached, the plateau included.
        use_warmup: whether a warm-up in the same list is used.
        min_lr_ratio: the minimum as a fraction of the base learning rate.
        last_plateau_epochs: number of epochs at the end with the minimum.
    """

    max_epochs: int = 1000
    use_warmup: bool = True
    min_lr_ratio: float = 0.0
    last_plateau_epochs: int = 0

    def __post_init__(self) -> None:
        _require(_whole(self.max_epochs, 1), "CosineDecay.max_epochs", self.max_epochs, "1 or more")
        ratio = self.min_lr_ratio
        _require(_at_least(ratio, 0) and ratio <= 1, "CosineDecay.min_lr_ratio", ratio, "between 0 and 1")
        plateau = self.last_plateau_epochs
        _require(_whole(plateau, 0), "CosineDecay.last_plateau_epochs", plateau, "a count of epochs")


@dataclass(frozen=True)
class PiecewiseDecay:
    """The learning rate changes in steps, at the milestones.

    Attributes:
        gamma: factor of the base learning rate after each milestone; one number g means g, g/10, g/100 …
        milestones: epochs at which the rate changes.
        values: learning rates before the first milestone and after each, instead of `gamma`.
        use_warmup: whether a warm-up in the same list is used.
    """

    gamma: Union[float, tuple[float, ...]] = (0.1, 0.01)
    milestones: tuple[int, ...] = (8, 11)
    values: tuple[float, ...] | None = None
    use_warmup: bool = True

    def __post_init__(self) -> None:
        milestones, key = self.milestones, "PiecewiseDecay.milestones"
        _require(all(_whole(m, 0) for m in milestones), key, milestones, "a list of epochs")
        _require(list(milestones) == sorted(milestones), key, milestones, "in rising order")
        if self.values is not None:
            fits = len(self.values) == len(milestones) + 1 and all(_at_least(v, 0) for v in self.values)
            expected = f"{len(milestones) + 1} learning rates, one more than there are milestones"
            _require(fits, "PiecewiseDecay.values", self.values, expected)
        fits = len(self.factors) == len(milestones) and all(_at_least(g, 0) for g in self.factors)
        _require(fits, "PiecewiseDecay.gamma", self.gamma, f"{len(milestones)} factors, one a milestone")

    @property
    def factors(self) -> tuple[float, ...]:
        """The factor of the base learning rate after each milestone."""
        if isinstance(self.gamma, (int, float)):
            return tuple(self.gamma / 10**i for i in range(len(self.milestones)))
        return tuple(self.gamma)


@dataclass(frozen=True)
class LinearWarmup:
    """Linear increase from `start_factor` of the base learning rate to all of it.

    Attributes:
        steps: length of the warm-up; replaced by `epochs` where that is set.
    """

    steps: int = 500
    start_factor: float = 1.0 / 3
    epochs: int | None = None

    def __post_init__(self) -> None:
        _check_length(self)
        factor = self.start_factor
        _require(_at_least(factor, 0), "LinearWarmup.start_factor", factor, "a number of 0 or more")


@dataclass(frozen=True)
class ExpWarmup:
    """Increase from 0 to the base learning rate as a power of the step.

    Attributes:
        steps: length of the warm-up; replaced by `epochs` where that is set.
    """

    steps: int = 1000
    epochs: int | None = None
    power: float = 2

    def __post_init__(self) -> None:
        _check_length(self)
        _require(_at_least(self.power, 0), "ExpWarmup.power", self.power, "a number of 0 or more")


Decay = Union[CosineDecay, PiecewiseDecay]
Warmup = Union[LinearWarmup, ExpWarmup]


def _check_length(warmup: Warmup) -> None:
    name = type(warmup).__name__
    _require(_whole(warmup.steps, 0), f"{name}.steps", warmup.steps, "a count of steps")
    _require(
        warmup.epochs is None or _whole(warmup.epochs, 0),
        f"{name}.epochs",
        warmup.epochs,
        "a count of epochs",
    )


@dataclass(frozen=True)
class LearningRate:
    """`LearningRate`: the base rate and how it changes.

    Attributes:
        base_lr: for the batch size of the training; `schedule.by_linear_rule` scales it.
        schedulers: one decay, and one warm-up or none, in any order.
    """

    base_lr: float = 0.01
    schedulers: tuple[Union[Decay, Warmup], ...] = (PiecewiseDecay(), LinearWarmup())

    def __post_init__(self) -> None:
        _require(_at_least(self.base_lr, 0), "LearningRate.base_lr", self.base_lr, "a number of 0 or more")
        decays, warmups = self._of(CosineDecay, PiecewiseDecay), self._of(LinearWarmup, ExpWarmup)
        names = [type(scheduler).__name__ for scheduler in self.schedulers]
        known = len(decays) + len(warmups) == len(names)
        expected = "one decay (CosineDecay, PiecewiseDecay) and at most one warm-up (LinearWarmup, ExpWarmup)"
        _require(known and len(decays) == 1 and len(warmups) < 2, "LearningRate.schedulers", names, expected)

    def _of(self, *kinds: type) -> list:
        return [scheduler for scheduler in self.schedulers if isinstance(scheduler, kinds)]

    @property
    def decay(self) -> Decay:
        """The one decay of `schedulers`."""
        return self._of(CosineDecay, PiecewiseDecay)[0]

    @property
    def warmup(self) -> Warmup | None:
        """The warm-up, unless there is none or the decay does not use it."""
        warmups = self._of(LinearWarmup, ExpWarmup)
        return warmups[0] if warmups and self.decay.use_warmup else None


@dataclass(frozen=True)
class OptimizerSettings:
    """`OptimizerBuilder`.

    Attributes:
        type: `Momentum`, `SGD`, `Adam` or `AdamW`.
        momentum: of `Momentum`.
        use_nesterov: of `Momentum`.
        beta1, beta2, epsilon: of `Adam` and `AdamW`.
        weight_decay: factor of the L2 regulariser, for parameters without their own; with `AdamW` the part of a
            parameter that a step of rate 1 takes away, of all parameters, as in PaddleDetection.
        clip_grad_by_norm: greatest norm of all gradients together; None: no limit.
        clip_grad_by_value: greatest absolute value of a gradient's elements; None: no limit.
    """

    type: str = "Momentum"
    momentum: float = 0.9
    use_nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-4
    clip_grad_by_norm: float | None = None
    clip_grad_by_value: float | None = None

    def __post_init__(self) -> None:
        key = "OptimizerBuilder"
        _require(
            self.type in OPTIMIZERS, f"{key}.optimizer.type", self.type, f"one of {', '.join(OPTIMIZERS)}"
        )
        momentum, decay = self.momentum, self.weight_decay
        fits = _at_least(momentum, 0) and momentum < 1
        _require(fits, f"{key}.optimizer.momentum", momentum, "between 0 and 1")
        _require(
            isinstance(self.use_nesterov, bool),
            f"{key}.optimizer.use_nesterov",
            self.use_nesterov,
            "true or false",
        )
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            _require(
                _at_least(value, 0) and value < 1, f"{key}.optimizer.{name}", value, "at least 0 and below 1"
            )
        _require(
            _at_least(self.epsilon, 0) and self.epsilon > 0,
            f"{key}.optimizer.epsilon",
            self.epsilon,
            "above 0",
        )
        named = "optimizer.weight_decay" if self.type == "AdamW" else "regularizer.factor"
        _require(_at_least(decay, 0), f"{key}.{named}", decay, "a number of 0 or more")
        for name in ("clip_grad_by_norm", "clip_grad_by_value"):
            limit = getattr(self, name)
            _require(limit is None or (_number(limit) and limit > 0), f"{key}.{name}", limit, "above 0")
        both = self.clip_grad_by_norm is not None and self.clip_grad_by_value is not None
        _require(
            not both, f"{key}.clip_grad_by_value", self.clip_grad_by_value, "of use beside clip_grad_by_norm"
        )

    @property
    def has_moments(self) -> bool:
        """Whether it keeps two moments of each parameter: Adam and AdamW."""
        return self.type in ("Adam", "AdamW")


@dataclass(frozen=True)
class EmaSettings:
    """Exponential moving average of the weights (`use_ema: true`).

    Attributes:
        decay: `ema_decay`.
        decay_type: `ema_decay_type`: threshold, normal or exponential.
        cycle_epoch: reset the average after this many evaluations; -1: never.
        black_list: parameters whose name contains one of these are not averaged.
        filter_no_grad: do not average parameters that are not trained.
    """

    decay: float = 0.9998
    decay_type: str = "threshold"
    cycle_epoch: int = -1
    black_list: tuple[str, ...] = ()
    filter_no_grad: bool = False

    def __post_init__(self) -> None:
        fits = _at_least(self.decay, 0) and self.decay < 1
        _require(fits, "ema_decay", self.decay, "at least 0 and below 1")
        kinds = ", ".join(EMA_DECAY_TYPES)
        _require(self.decay_type in EMA_DECAY_TYPES, "ema_decay_type", self.decay_type, f"one of {kinds}")
        _require(
            _whole(self.cycle_epoch, -1), "cycle_epoch", self.cycle_epoch, "a count of evaluations or -1"
        )


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained. Batch size and workers are the reader's settings.

    Attributes:
        epochs: `epoch`.
        learning_rate: `LearningRate`.
        optimizer: `OptimizerBuilder`.
        ema: None with `use_ema: false`.
        seed: of all random numbers in the network.
        snapshot_epoch: evaluate, and write the last weights, every this many epochs and at the end.
        log_iter: write a row of metrics every this many steps.
        keep_checkpoints: number of checkpoints kept.
        checkpoint_minutes: write a checkpoint at least this often, beside one per epoch.
        checkpoint_steps: write a checkpoint also every this many steps; 0: do not.
        reference_batch: `Train.reference_batch`: number of images per update that the learning rate is meant
            for; it is scaled in proportion to the number in this training. None: it is not scaled.
        accumulate_steps: `Train.accumulate_steps`: number of batches whose gradients make one update.
        freeze_backbone: `Train.freeze_backbone`: do not train the backbone, nor update its batch norm.
        freeze_batch_norm: `Train.freeze_batch_norm`: batch norm uses its stored statistics and is not
            trained.
        amp: `Train.amp`: mixed precision: float16 on a GPU, bfloat16 by oneDNN on a CPU that multiplies it.
        early_stop: `Train.early_stop`: training ends after this many evaluations in a row without a better one; None:
            never for that reason.
        save_best: `Train.save_best`: the number of an evaluation, of COCO's twelve or VOC's, that says which is better.
        sync_bn: `norm_type: sync_bn`: batch norm over the images of all processes.
        fast_convolutions: compute convolutions by oneDNN on CPU, where it is available.
    """

    epochs: int
    learning_rate: LearningRate = field(default_factory=LearningRate)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    ema: EmaSettings | None = None
    seed: int = 0
    snapshot_epoch: int = 1
    log_iter: int = 20
    keep_checkpoints: int = 2
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int = 0
    reference_batch: int | None = None
    accumulate_steps: int = 1
    freeze_backbone: bool = False
    freeze_batch_norm: bool = False
    amp: bool = False
    early_stop: int | None = None
    save_best: str = "mAP"
    sync_bn: bool = False
    fast_convolutions: bool = True

    def __post_init__(self) -> None:
        for name, key in (
            ("epochs", "epoch"),
            ("snapshot_epoch", ""),
            ("log_iter", ""),
            ("keep_checkpoints", ""),
            ("accumulate_steps", "Train.accumulate_steps"),
            ("reference_batch", "Train.reference_batch"),
            ("early_stop", "Train.early_stop"),
        ):
            value = getattr(self, name)
            if name in ("reference_batch", "early_stop") and value is None:
                continue
            _require(_whole(value, 1), key or name, value, "a whole number of 1 or more")
        for name in ("seed", "checkpoint_steps"):
            _require(_whole(getattr(self, name), 0), name, getattr(self, name), "a whole number of 0 or more")
        for name in ("freeze_backbone", "freeze_batch_norm", "amp"):
            value = getattr(self, name)
            _require(isinstance(value, bool), f"Train.{name}", value, "true or false")
        minutes = self.checkpoint_minutes
        _require(_number(minutes) and minutes > 0, "checkpoint_minutes", minutes, "a number above 0")


def check_precision(amp: bool, device: str) -> None:
    """Reject mixed precision where nothing computes in it: on CPUs without products of bfloat16.

    Args:
        amp: `Train.amp`.
        device: `cpu`, `gpu` or `gpu:0`.

    Raises: `ConfigError`.
    """
    if not amp or device.startswith("gpu"):
        return
    from picoquant.training.onednn.engine import bfloat16_available

    if not bfloat16_available():
        raise ConfigError(
            f"Train.amp: mixed precision needs a GPU, or a CPU that multiplies bfloat16 (AVX512-BF16), and --device is "
            f"{device}; set Train.amp=false, or use --device gpu"
        )
