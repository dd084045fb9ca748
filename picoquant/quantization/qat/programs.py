"""AutoCompression with its set-up replaced: the student is quantised before anything joins it.

PaddleSlim 2.6 (`auto_compression/create_compressed_program.py`) joins student, teacher, loss, backward and
optimiser in one program and sends the quantisation passes over all of it; with PACT each activation copies a
graph as well. What is computed is the same here: strategies, distillation nodes, losses, optimiser and
learning rate are AutoCompression's; the student's quantised operators and their ranges have the same names.

Batch-norm that is not folded trains as the exported program says: exports in evaluation mode (picoquant's and
PaddleDetection's) carry `use_global_stats`, so it normalises by its running statistics, which stay.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddleslim.auto_compression import AutoCompression
from paddleslim.auto_compression.create_compressed_program import (
    _create_optimizer,
    _get_distill_node,
    _get_target_node,
)
from paddleslim.common.recover_program import recover_inference_program

from picoquant.errors import ConfigError
from picoquant.int8.operators import QuantizedOperator, scale_name
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.onednn import read_weights_each_time, use_onednn
from picoquant.paddle_program.static import InferenceModel, load_model, strip_feed_fetch
from picoquant.quantization.ptq.equalisation_scales import read_scales
from picoquant.quantization.qat.distillation import distillation_loss, final_nodes
from picoquant.quantization.qat.fake_quant import insert_fake_quantisation, is_trainable
from picoquant.quantization.qat.freeze import frozen_copy
from picoquant.quantization.qat.gradient_scaling import at_own_rates, learns
from picoquant.quantization.qat.learned_ranges.gradients import add_range_gradients, cheaper_gradients
from picoquant.quantization.qat.learned_ranges.pact import is_limit, limit_optimizer
from picoquant.quantization.qat.learning_rate import LearningRate
from picoquant.quantization.qat.teacher import PREFIX, Teacher
from picoquant.quantization.settings import DistillationSettings, QatTrainSettings
from picoquant.training.fast import fast_convolutions_available
from picoquant.utils.suggest import suggestion


@dataclass(frozen=True)
class QatPrograms:
    """Everything that training runs; the variables are in the scope it was built in.

    Attributes:
        executor: runs the programs.
        train: quantised student, loss, backward and optimiser; fed with images and the teacher's values.
        frozen: the same with ranges and batch-norm statistics as they are.
        test: the quantised student for evaluation, with the original's inputs and outputs.
        original: the student as it was loaded, for calibration.
        loss: the variable that is minimised.
        rate: the learning rate; it must be put into the scope before each step.
        operators: what is quantised.
        feeds: names of the network's inputs that training needs.
        teacher: computes the values that the student is compared with.
    """

    executor: Any
    train: Any
    frozen: Any
    test: InferenceModel
    original: InferenceModel
    loss: Any
    rate: LearningRate
    operators: tuple[QuantizedOperator, ...]
    feeds: tuple[str, ...]
    teacher: Teacher


class StudentFirstCompression(AutoCompression):
    """AutoCompression for QAT with distillation.

    Args:
        folder: the student's, with `model.pdmodel` and `model.pdiparams`; where it was equalised, with the factors
            of `weight_rates.py`.
        teacher: the teacher's, the same files.
        work_dir: for the teacher's files and whatever AutoCompression writes.
        config: what is known about the models' input.
        distillation, quant, train: the sections of its configuration.
        rate_scale: the linear rule's factor of the learning rate.
        lsq: learn the activations' ranges by LSQ, with gradients that many times as large; None: do not.
        onednn: run convolutions through oneDNN, forward and backward, where this Paddle has it: equal but
            for rounding, and faster.
    """

    def __init__(
        self,
        folder: Path,
        teacher: Path,
        work_dir: Path,
        config: InferConfig,
        distillation: DistillationSettings,
        quant: QuantAwareSettings,
        train: QatTrainSettings,
        rate_scale: float = 1.0,
        lsq: float | None = None,
        onednn: bool = True,
    ) -> None:
        self._rate_scale, self._lsq = rate_scale, lsq
        self._onednn = onednn and fast_convolutions_available()
        self._folder, self._work = Path(folder), Path(work_dir)
        self._teacher_folder = Path(teacher)
        self._infer_config, self._distillation, self._quant = config, distillation, quant
        _check_readable(self._folder)
        super().__init__(
            str(folder),
            lambda: iter([{}]),
            MODEL,
            PARAMS,
            str(work_dir),
            {
                "Distillation": distillation.to_paddleslim(),
                "QuantAware": quant.to_paddleslim(),
                "TrainConfig": train.to_paddleslim(),
            },
        )

    def _get_model_info(self) -> tuple[list[str], None]:
        """Default distillation nodes, as pairs of teacher's and student's; the model's kind is not needed."""
        names = final_nodes(self._load().program)
        return [name for node in names for name in (PREFIX + node, node)], None

    def build(self, announce: Callable[[str], None]) -> QatPrograms:
        """Make the programs in the current scope.

        Args:
            announce: told what is being done.

        Raises: `ConfigError` for nodes, optimisers or schedulers that do not exist; `WeightsError` for
            models that cannot be quantised.
        """
        config, train_config = self._config[0].__dict__, self.train_config[0].__dict__
        scope = paddle.static.global_scope()
        announce("quantising the student")
        original = self._load()
        if self._onednn:
            use_onednn(original.program)
        startup = paddle.static.Program()
        program = recover_inference_program(original.program.clone(), startup)
        pairs = self._node_pairs(program, config)
        test = strip_feed_fetch(original.program.clone(for_test=True))
        read_weights_each_time(test)
        operators = insert_fake_quantisation(test, scope, self._quant, training=False)
        program = strip_feed_fetch(program._prune(_get_target_node(pairs)))
        startup = paddle.static.Program()
        with paddle.static.program_guard(program, startup):
            insert_fake_quantisation(program, scope, self._quant, training=True, lsq=self._lsq is not None)
            announce("preparing the teacher")
            teacher = self._teacher(program, pairs)
            announce("adding backward and optimiser")
            ranges = partial(
                add_range_gradients, operators=operators, bits=self._quant.activation_bits, lsq=self._lsq
            )
            learn = ranges if self._lsq is not None or self._quant.use_pact else lambda program: []
            scales = read_scales(self._folder)
            loss, rate = _add_training(program, startup, pairs, config, train_config, learn, scales)
        rate.scale = self._rate_scale
        self._exe.run(startup)
        fetches = [test.global_block().var(variable.name) for variable in original.fetches]
        used = {name for op in program.global_block().ops for name in op.input_arg_names}
        return QatPrograms(
            executor=self._exe,
            train=program,
            frozen=frozen_copy(program, {name for name in used if is_range(name)}),
            test=InferenceModel(test, original.feeds, tuple(fetches)),
            original=original,
            loss=loss,
            rate=rate,
            operators=operators,
            feeds=tuple(name for name in original.feeds if name in used),
            teacher=teacher,
        )

    def _load(self) -> InferenceModel:
        return load_model(self._folder, self._exe)

    def _node_pairs(self, program: Any, config: dict[str, Any]) -> list[Any]:
        known = [variable.name for variable in program.list_vars() if not variable.persistable]
        for name in _flat(self._distillation.node):
            plain = name[len(PREFIX) :] if name.startswith(PREFIX) else name
            if name == plain and plain not in known:
                raise ConfigError(
                    f"Distillation.node: the model has no variable {name}{suggestion(name, known)}"
                )
        return _get_distill_node(program, config) or self.default_distill_node_pair

    def _teacher(self, program: Any, pairs: list[Any]) -> Teacher:
        """The teacher, and its variables in the student's program as inputs."""
        names = sorted(_get_target_node(pairs, teacher=True))
        with paddle.static.scope_guard(paddle.static.Scope()):
            model = load_model(self._teacher_folder, self._exe)
            teacher = Teacher(model, self._exe, names, self._work / "distilled", self._infer_config)
            for name in names:
                like = model.program.global_block().var(name)
                variable = paddle.static.data(PREFIX + name, [-1, *like.shape[1:]], like.dtype)
                variable.stop_gradient = True
        return teacher


def _check_readable(folder: Path) -> None:
    """Fail as picoquant does on a model that AutoCompression could not load."""
    with paddle.static.scope_guard(paddle.static.Scope()):
        load_model(folder, paddle.static.Executor(paddle.CPUPlace()))


def _add_training(
    program: Any,
    startup: Any,
    pairs: list[Any],
    config: dict,
    train_config: dict,
    learn: Callable[[Any], list[tuple[Any, Any]]],
    scales: Mapping[str, np.ndarray],
) -> tuple[Any, LearningRate]:
    """Add loss, backward and optimisers."""
    with paddle.utils.unique_name.guard("merge"):
        optimizer, schedule = _make_optimizer(train_config)
        loss = paddle.mean(distillation_loss(pairs, config["loss"], config["alpha"]))
        loss.stop_gradient = False
        weights = [variable for variable in program.all_parameters() if is_trainable(variable)]
        weights = [one for one in weights if not is_range(one.name) and learns(one.name, scales)]
        gradients = optimizer.backward(loss, startup, weights)
        cheaper_gradients(program)
        learned = learn(program)
        limits = [pair for pair in learned if is_limit(pair[0].name)]
        gradients = at_own_rates(program, paddle.static.global_scope(), gradients, scales)
        optimizer.apply_gradients(gradients + [pair for pair in learned if not is_limit(pair[0].name)])
        fixed = {}
        if limits:
            others = limit_optimizer()
            others.apply_gradients(limits)
            fixed[others._global_learning_rate(program).name] = others.get_lr()
    if hasattr(program, "lr_scheduler"):
        del program.lr_scheduler  # an executor would write the rate before each step without our factors
    return loss, LearningRate(schedule, optimizer._global_learning_rate(program).name, fixed)


def is_range(name: str) -> bool:
    """Whether a parameter is a learned range, whose gradient is added after backward."""
    return is_limit(name) or name.endswith(scale_name(""))


def _make_optimizer(train_config: dict[str, Any]) -> tuple[Any, Any]:
    """PaddleSlim's optimiser, with its failures named by key."""
    try:
        return _create_optimizer(copy.deepcopy(train_config))
    except TypeError as error:
        raise ConfigError(f"TrainConfig.learning_rate or optimizer_builder: {error}") from error


def _flat(names: Any) -> list[str]:
    if isinstance(names, str):
        return [names]
    return [name for part in names for name in _flat(part)]
