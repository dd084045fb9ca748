"""Settings of quantisation: the keys of AutoCompression's YAML sections, checked when built.

Keys and defaults are those of PaddleSlim 2.6 (`paddleslim/auto_compression/strategy_config.py`), except
where an INT8 NPU needs another default. A value that picoquant cannot honour is refused, never ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Union

from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.paddle_classes import require_class
from picoquant.utils.setting_checks import between, frozen, listed, one_of, positive, thawed, whole_or_none

LOSSES = ("l2", "soft_label", "dkd", "skd")
METHODS = ("qat", "ptq")
TRAININGS = ("configured", "levels")
ENGINES = ("picoquant", "paddleslim")
ROUNDINGS = ("nearest", "reconstructed")
RANGES = ("detections", "min_max", "percentile", "mse", "kl", "histogram", "weights")
NO_EVALUATION = (
    "Quantize.max_drop needs the mAP of the evaluation images: set Global.Evaluation to true, or name layers in "
    "Quantize.keep_float"
)


@dataclass(frozen=True)
class DistillationSettings:
    """Section `Distillation`: how the INT8 student learns from the FP32 teacher.

    Attributes:
        loss: `l2`, `soft_label`, `dkd` or `skd`; a list of them goes with lists of nodes.
        node: names of the variables to compare; none: the outputs of the last operators with weights.
        alpha: factor of the loss; a list has one for each loss.
        teacher_model_dir: folder of the teacher; None: the model that is quantised is its own teacher.
        teacher_model_filename, teacher_params_filename: names in that folder.
    """

    loss: Union[str, tuple[str, ...]] = "l2"
    node: tuple[Any, ...] = ()
    alpha: Union[float, tuple[float, ...]] = 1.0
    teacher_model_dir: str | None = None
    teacher_model_filename: str = "model.pdmodel"
    teacher_params_filename: str = "model.pdiparams"

    def __post_init__(self) -> None:
        node = () if self.node is None else tuple(frozen(name) for name in listed(self.node))
        object.__setattr__(self, "node", node)
        nested = bool(node) and isinstance(node[0], tuple)
        for name in ("loss", "alpha"):
            value = frozen(getattr(self, name))
            if not nested and isinstance(value, tuple):
                value = _only(f"Distillation.{name}", value)
            object.__setattr__(self, name, value)
        if nested:
            self._check_lists(len(node))
        for loss in listed(self.loss):
            one_of("Distillation.loss", loss, LOSSES)
        for alpha in listed(self.alpha):
            positive("Distillation.alpha", alpha)
        if not nested:
            object.__setattr__(self, "alpha", float(self.alpha))

    @property
    def names(self) -> frozenset[str]:
        """The variables that `node` names."""
        groups = [group if isinstance(group, tuple) else (group,) for group in self.node]
        return frozenset(name for group in groups for name in group)

    def _check_lists(self, groups: int) -> None:
        for name in ("loss", "alpha"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or len(value) != groups:
                raise ConfigError(
                    f"Distillation.{name}: Distillation.node has {groups} lists, so {groups} values are "
                    f"needed, found {value!r}"
                )

    def to_paddleslim(self) -> dict[str, Any]:
        """The section as AutoCompression reads it."""
        return {
            "loss": thawed(self.loss),
            "node": thawed(self.node),
            "alpha": thawed(self.alpha),
            "teacher_model_dir": self.teacher_model_dir,
            "teacher_model_filename": self.teacher_model_filename,
            "teacher_params_filename": self.teacher_params_filename,
        }


@dataclass(frozen=True)
class QatTrainSettings:
    """Section `TrainConfig`: how long, how fast.

    Attributes:
        epochs: passes over the images; ends training when it comes before `train_iter`.
        train_iter: steps.
        learning_rate: a number, or `{type: <class of paddle.optimizer.lr>, <its arguments>}`.
        optimizer_builder: `optimizer: {type: …}`, and `weight_decay`, `regularizer` or `grad_clip`.
        eval_iter: steps between evaluations.
        logging_iter: accepted; progress is shown by time.
        origin_metric: mAP of the FP32 model, 0 to 1; quantisation stops at once when it is off by 0.05.
        target_metric: training ends when the INT8 mAP is above it.
        amp_config, recompute_config, sharding_config, sparse_model: accepted as unset only.
    """

    epochs: int | None = None
    train_iter: int | None = None
    learning_rate: Union[float, Mapping[str, Any]] = 1e-5
    optimizer_builder: Mapping[str, Any] = field(default_factory=lambda: {"optimizer": {"type": "SGD"}})
    eval_iter: int = 1000
    logging_iter: int = 10
    origin_metric: float | None = None
    target_metric: float | None = None
    amp_config: Mapping[str, Any] | None = None
    recompute_config: Mapping[str, Any] | None = None
    sharding_config: Mapping[str, Any] | None = None
    sparse_model: bool = False

    def __post_init__(self) -> None:
        if self.train_iter is None and self.epochs is None:
            raise ConfigError("TrainConfig.train_iter: say how many steps to train, for example 8000")
        for name in ("epochs", "train_iter", "eval_iter", "logging_iter"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ConfigError(f"TrainConfig.{name}: expected a whole number above 0, found {value!r}")
        self._check_learning_rate()
        self._check_optimizer()
        for name in ("origin_metric", "target_metric"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, (int, float)) or not 0 <= value <= 1):
                raise ConfigError(f"TrainConfig.{name}: expected a mAP from 0 to 1, found {value!r}")
        for name in ("amp_config", "recompute_config", "sharding_config", "sparse_model"):
            if getattr(self, name):
                raise ConfigError(
                    f"TrainConfig.{name} is not supported in quantisation: remove it; {NOT_SUPPORTED}"
                )

    def _check_learning_rate(self) -> None:
        rate = self.learning_rate
        if isinstance(rate, Mapping):
            if not isinstance(rate.get("type"), str):
                raise ConfigError(
                    "TrainConfig.learning_rate.type is missing: a class of paddle.optimizer.lr, for "
                    "example CosineAnnealingDecay"
                )
            require_class("TrainConfig.learning_rate.type", "paddle.optimizer.lr", rate["type"])
            if "learning_rate" in rate:
                positive("TrainConfig.learning_rate.learning_rate", rate["learning_rate"])
        else:
            positive("TrainConfig.learning_rate", rate)
            object.__setattr__(self, "learning_rate", float(rate))

    def _check_optimizer(self) -> None:
        known = ("optimizer", "weight_decay", "regularizer", "grad_clip")
        builder = self.optimizer_builder
        if not isinstance(builder, Mapping):
            raise ConfigError(f"TrainConfig.optimizer_builder: expected keys, found {builder!r}")
        for key in builder:
            one_of("TrainConfig.optimizer_builder", key, known)
        modules = {"optimizer": "optimizer", "regularizer": "regularizer", "grad_clip": "nn"}
        for key, module in modules.items():
            if key != "optimizer" and key not in builder:
                continue
            part = builder.get(key)
            if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
                raise ConfigError(f"TrainConfig.optimizer_builder.{key}.type is missing")
            require_class(f"TrainConfig.optimizer_builder.{key}.type", f"paddle.{module}", part["type"])

    def steps(self, steps_per_epoch: int | None) -> int:
        """The number of steps to train.

        Args:
            steps_per_epoch: batches in one pass over the images; None: not known.

        Raises: `ConfigError` when only `epochs` is set and the length of an epoch is not known.
        """
        limits = [] if self.train_iter is None else [self.train_iter]
        if self.epochs is not None and steps_per_epoch is not None:
            limits.append(self.epochs * steps_per_epoch)
        if not limits:
            raise ConfigError("TrainConfig.epochs alone does not say how many steps: set train_iter")
        return min(limits)

    def to_paddleslim(self) -> dict[str, Any]:
        """The section as AutoCompression reads it."""
        values = {name: thawed(getattr(self, name)) for name in self.__dataclass_fields__}
        if values["train_iter"] is None:
            del values["train_iter"]
        return values


@dataclass(frozen=True)
class QuantizationSettings:
    """Section `Quantize`: picoquant's own keys, for which AutoCompression has none.

    Attributes:
        engine: what quantises: `picoquant`, or `paddleslim`: PaddleSlim's own AutoCompression, as a reference; it
            reads none of the other keys, and needs PaddlePaddle 2.6.
        patience: training ends after this many evaluations in a row that do not beat the best one, the
            calibrated start included; None: never for that reason.
        reference_batch: images of a step, over all devices, that `TrainConfig.learning_rate` is meant for; a
            step of more or fewer scales the rate in proportion. None: the rate stays.
        training: how QAT trains. `levels`: every tensor that INT8 holds is rounded, at its calibrated range; the loss
            is the error of the detections; a weight moves by parts of its levels (`level_optimizer.py`).
            `configured`: the inputs of operators are rounded, with section `Distillation`'s loss, `TrainConfig`'s
            optimiser and rate, and the ranges that `learned_ranges` and `QuantAware.use_pact` say.
        level_rate: for `training: levels`: levels that weights move in a step, root mean square over a tensor.
        learned_ranges: `lsq`: the activations' ranges are learned by LSQ (https://arxiv.org/abs/1902.08153), in
            place of moving averages; `none`: by PACT where `QuantAware.use_pact` says so, else not.
        lsq_rate: LSQ's gradients are multiplied by this; with SGD, the ranges' share of the learning rate. The
            paper's is 1, with learning rates of about 0.01.
        freeze_last: the last part of training, for example 0.2, in which ranges of activations and batch-norm
            statistics stay as they are.
        guard_rise: the loss has diverged when it is this many times its lowest running median (see
            `divergence_guard.py`); None: only when it is NaN or infinite.
        guard_collapse: training has diverged when an evaluation is below this part of the best one; None: never.
        guard_rate_factor: the learning rate is multiplied by this each time training goes back to a good state.
        guard_tries: how often it goes back; then training ends with the best model.
        fold_batch_norm: fold batch-norm into the convolutions before anything else, as an NPU's compiler
            does; false quantises the network as PaddleSlim does.
        method: `qat`: calibrate, then train; `ptq`: calibrate only.
        ranges: how a tensor's range is chosen, see `range_search.choose_range`; `weights`: those that
            quantisation-aware training in dygraph has saved with the weights, and `mse` where it has none.
        percentile: for `ranges: percentile`.
        cross_layer_equalisation: give the channels of a tensor similar ranges where that changes no output
            (`ptq/equalisation`).
        channel_copies: with it, how often a channel that 8 bits hold too coarsely may be computed, see
            `ptq/equalisation/copies.py`; 1: once, as in the float network.
        rounding: of the weights. `nearest`: each to its nearest quantised value; `reconstructed`: so that the
            convolutions' results change least (`adaptive_rounding.py`).
        bias_correction: correct biases for the shift that rounding the weights causes (`bias_correction.py`).
        keep_float: layers that stay in floating point: names or patterns (`conv2d_5`, `conv2d_1*`), see
            `ignored_layers.py`.
        max_drop: the mAP (0 to 1) that INT8 may lose against FP32; when it loses more, layers stay in float,
            the most expensive first, see `accuracy_control/search.py`. None: any loss is accepted.
        allow_float: `keep_float` and `max_drop` are also used for an NPU that runs INT8 only; the layers then
            run on its CPU.
    """

    engine: str = "picoquant"
    patience: int | None = None
    reference_batch: int | None = None
    training: str = "configured"
    level_rate: float = 0.005
    learned_ranges: str = "none"
    lsq_rate: float = 1.0
    freeze_last: float = 0.0
    guard_rise: float | None = 4.0
    guard_collapse: float | None = 0.5
    guard_rate_factor: float = 0.3
    guard_tries: int = 3
    fold_batch_norm: bool = True
    method: str = "qat"
    ranges: str = "detections"
    percentile: float = 99.99
    cross_layer_equalisation: bool = True
    channel_copies: int = 4
    rounding: str = "nearest"
    bias_correction: bool = True
    keep_float: tuple[str, ...] = ()
    max_drop: float | None = None
    allow_float: bool = False

    def __post_init__(self) -> None:
        one_of("Quantize.engine", self.engine, ENGINES)
        whole_or_none("Quantize.patience", self.patience)
        whole_or_none("Quantize.reference_batch", self.reference_batch)
        positive("Quantize.lsq_rate", self.lsq_rate)
        if self.freeze_last != 0:
            between("Quantize.freeze_last", self.freeze_last, 0, 1)
        one_of("Quantize.training", self.training, TRAININGS)
        positive("Quantize.level_rate", self.level_rate)
        one_of("Quantize.learned_ranges", self.learned_ranges, ("none", "lsq"))
        if self.guard_rise is not None:
            between("Quantize.guard_rise", self.guard_rise, 1, math.inf)
        if self.guard_collapse is not None:
            between("Quantize.guard_collapse", self.guard_collapse, 0, 1)
        between("Quantize.guard_rate_factor", self.guard_rate_factor, 0, 1)
        if self.guard_tries != 0:
            whole_or_none("Quantize.guard_tries", self.guard_tries)
        for name in ("fold_batch_norm", "cross_layer_equalisation", "bias_correction", "allow_float"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"Quantize.{name}: expected true or false, found {getattr(self, name)!r}")
        copies = self.channel_copies
        if isinstance(copies, bool) or copies not in range(1, 17):
            raise ConfigError(
                f"Quantize.channel_copies: expected a whole number from 1 to 16, found {copies!r}"
            )
        one_of("Quantize.method", self.method, METHODS)
        one_of("Quantize.ranges", self.ranges, RANGES)
        if self.ranges == "weights" and self.cross_layer_equalisation:
            raise ConfigError(
                "Quantize.ranges: weights are those of the network as it was trained, which equalisation changes: set "
                "Quantize.cross_layer_equalisation to false"
            )
        one_of("Quantize.rounding", self.rounding, ROUNDINGS)
        if self.percentile != 100:
            between("Quantize.percentile", self.percentile, 50, 100)
        names = tuple(listed(self.keep_float)) if self.keep_float is not None else ()
        for name in names:
            if not isinstance(name, str) or not name:
                raise ConfigError(f"Quantize.keep_float: expected names of layers, found {name!r}")
        object.__setattr__(self, "keep_float", names)
        if self.max_drop is not None and self.max_drop != 0:
            between("Quantize.max_drop", self.max_drop, 0, 1)

    @property
    def by_levels(self) -> bool:
        """Whether there is training, and that by levels."""
        return self.engine == "picoquant" and self.method == "qat" and self.training == "levels"

    @property
    def learns_ranges(self) -> bool:
        """Whether training moves the ranges of activations, which are symmetric then."""
        return self.method == "qat" and not self.by_levels


@dataclass(frozen=True)
class QuantizationSections:
    """All sections that quantisation reads, and what no section has a key for.

    Attributes:
        distillation, quant, train, quantization: sections `Distillation`, `QuantAware`, `TrainConfig`, `Quantize`.
        calibration_batches: batches whose activations set the ranges before step 1; 0: none, as in PaddleSlim.
        checkpoint_seconds: between two checkpoints.
        steps_per_epoch: batches in a pass over the images, for `TrainConfig.epochs`.
        batch_size: images of a batch, for `Quantize.reference_batch`; None: not known, the rate stays.
    """

    distillation: DistillationSettings
    quant: QuantAwareSettings
    train: QatTrainSettings
    quantization: QuantizationSettings = field(default_factory=QuantizationSettings)
    calibration_batches: int = 8
    checkpoint_seconds: float = 20.0
    steps_per_epoch: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        check_together(self.quant, self.quantization)
        if self.quantization.by_levels and not self.calibration_batches:
            raise ConfigError(
                "Quantize.training: levels keeps the calibrated ranges, so it needs calibration images: set "
                "Calibration.count, or Quantize.training to configured"
            )

    def without_decisions(self) -> QuantizationSections:
        """The settings without what is decided after quantisation, which need not start again for it."""
        decided = replace(self.quantization, max_drop=None, allow_float=False)
        return replace(self, quantization=decided)


def check_together(quant: QuantAwareSettings, quantization: QuantizationSettings) -> None:
    """Refuse values of two sections that contradict each other.

    Raises: `ConfigError` naming both keys.
    """
    if quantization.by_levels and quantization.learned_ranges == "lsq":
        raise ConfigError(
            "Quantize.training: levels keeps the calibrated ranges, Quantize.learned_ranges: lsq learns them; set "
            "Quantize.learned_ranges to none, or Quantize.training to configured"
        )
    if quantization.by_levels and not quantization.fold_batch_norm:
        raise ConfigError(
            "Quantize.training: levels moves the weights that INT8 holds, so batch-norm must be folded into them; set "
            "Quantize.fold_batch_norm to true, or Quantize.training to configured"
        )
    if quantization.learns_ranges and not quant.symmetric_activations:
        raise ConfigError(
            "QuantAware.symmetric_activations: false is for ranges that calibration has chosen, and "
            "Quantize.training: configured learns symmetric ones; set Quantize.training to levels, Quantize.method to "
            "ptq, or QuantAware.symmetric_activations to true"
        )
    if quant.onnx_format and not quant.symmetric_activations:
        raise ConfigError(
            "QuantAware.onnx_format: true writes operators whose kernels have no zero point; set it to false, "
            "or QuantAware.symmetric_activations to true"
        )
    if quantization.learned_ranges == "lsq" and quant.use_pact:
        raise ConfigError(
            "Quantize.learned_ranges: lsq and QuantAware.use_pact: true both learn the ranges; set "
            "QuantAware.use_pact to false, or Quantize.learned_ranges to none"
        )


def _only(where: str, values: tuple[Any, ...]) -> Any:
    if len(values) != 1:
        raise ConfigError(f"{where}: {len(values)} values need as many lists in Distillation.node")
    return values[0]
