"""AutoCompression with its set-up replaced: the student is quantised before anything else is added to it.

PaddleSlim 2.6 (`auto_compression/create_compressed_program.py`) joins student, teacher, loss, backward and
optimiser in one program and runs the quantisation passes over all of it; with PACT each activation copies a
graph as well. Here the same is computed: strategies, distillation nodes, losses, optimiser and learning rate are
AutoCompression's; the student's quantised operators and their ranges have the same names.

Batch-norm that is not folded trains as the exported program says: exports in evaluation mode (picoquant's and
PaddleDetection's) carry `use_global_stats`, so it normalises by its running statistics, which stay.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
from paddleslim.auto_compression import AutoCompression
from paddleslim.auto_compression.create_compressed_program import (
    _create_optimizer,
    _get_distill_node,
    _get_target_node,
)
from paddleslim.common.recover_program import recover_inference_program

from picoquant.errors import ConfigError
from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.static.onednn import read_weights_each_time, use_onednn
from picoquant.paddle_program.static.programs import InferenceModel, load_model, strip_feed_fetch
from picoquant.quantization.fake_quant import FixedRange, insert_fake_quantisation
from picoquant.quantization.ptq.equalisation_scales import read_scales
from picoquant.quantization.qat.distillation import distillation_loss, final_nodes
from picoquant.quantization.qat.freeze import freeze_ranges_and_statistics
from picoquant.quantization.qat.gradient_scaling import is_constant, is_trainable, scale_gradients
from picoquant.quantization.qat.learned_ranges.gradients import cheaper_gradients
from picoquant.quantization.qat.learned_ranges.strategy import RangeStrategy
from picoquant.quantization.qat.learning_rate import LearningRate
from picoquant.quantization.qat.teacher import PREFIX, Teacher
from picoquant.quantization.settings import DistillationSettings, QatTrainSettings
from picoquant.training.fast import fast_convolutions_available
from picoquant.utils.suggest import suggestion


@dataclass(frozen=True)
class QatPrograms:
    """Everything that training runs; the variables are in the scope that was current when it was built.

    Attributes:
        executor: runs the programs.
        train: quantised student, loss, backward and optimiser; fed with images and the teacher's values.
        frozen: the same with frozen ranges and batch-norm statistics, see `freeze.py`.
        test: the quantised student for evaluation, with the float student's inputs and outputs.
        loss: the variable that is minimised.
        rate: the learning rate; it must be written into the scope before each step.
        operators: the quantised operators, in the network's order.
        feeds: names of the network's inputs that training needs.
        teacher: computes the values that the student is compared with.
    """

    executor: Any
    train: Any
    frozen: Any
    test: InferenceModel
    loss: Any
    rate: LearningRate
    operators: tuple[QuantizableOperator, ...]
    feeds: tuple[str, ...]
    teacher: Teacher


class StudentFirstCompression(AutoCompression):
    """AutoCompression for QAT with distillation.

    Args:
        folder: the student's, with `model.pdmodel` and `model.pdiparams`; where it was equalised, with the scales
            of `ptq/equalisation_scales.py`.
        teacher: the teacher's, with the same model files.
        work_dir: receives the teacher's files and what AutoCompression writes.
        config: of the FP32 model's folder.
        distillation, quant, train: sections of AutoCompression's configuration.
        ranges: how the activations' ranges are found.
        rate_scale: the linear rule's factor of the learning rate.
        onednn: run convolutions through oneDNN, forward and backward, where this Paddle has it: faster, and equal
            up to rounding.
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
        ranges: RangeStrategy,
        rate_scale: float = 1.0,
        onednn: bool = True,
    ) -> None:
        self._ranges, self._rate_scale = ranges, rate_scale
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
        """Default distillation nodes, as pairs of teacher's and student's; the second value is not needed."""
        names = final_nodes(self._load().program)
        return [name for node in names for name in (PREFIX + node, node)], None

    def build(self, announce: Callable[[str], None]) -> QatPrograms:
        """Build the programs in the current scope.

        Args:
            announce: called with a text before each part.

        Raises: `ConfigError` for nodes, optimisers or schedulers that do not exist; `WeightsError` for
            models that cannot be quantised.
        """
        scope = paddle.static.global_scope()
        announce("quantising the student")
        original = self._load()
        if self._onednn:
            use_onednn(original.program)
        startup = paddle.static.Program()
        program = recover_inference_program(original.program.clone(), startup)
        pairs = self._node_pairs(program, self._config[0].__dict__)
        test = strip_feed_fetch(original.program.clone(for_test=True))
        read_weights_each_time(test)
        operators = insert_fake_quantisation(test, scope, self._quant, FixedRange())
        program = strip_feed_fetch(program._prune(_get_target_node(pairs)))
        startup = paddle.static.Program()
        with paddle.static.program_guard(program, startup):
            insert_fake_quantisation(program, scope, self._quant, self._ranges)
            announce("preparing the teacher")
            teacher = self._teacher(program, pairs)
            announce("adding backward and optimiser")
            loss, rate = self._add_training(program, startup, pairs, operators)
        rate.scale = self._rate_scale
        self._exe.run(startup)
        fetches = [test.global_block().var(variable.name) for variable in original.fetches]
        used = {name for op in program.global_block().ops for name in op.input_arg_names}
        return QatPrograms(
            executor=self._exe,
            train=program,
            frozen=freeze_ranges_and_statistics(
                program, {name for name in used if self._ranges.is_parameter(name)}
            ),
            test=InferenceModel(test, original.feeds, tuple(fetches)),
            loss=loss,
            rate=rate,
            operators=operators,
            feeds=tuple(name for name in original.feeds if name in used),
            teacher=teacher,
        )

    def _add_training(
        self, program: Any, startup: Any, pairs: list[Any], operators: tuple[QuantizableOperator, ...]
    ) -> tuple[Any, LearningRate]:
        """Add loss, backward and optimisers; the loss variable and the learning rate are returned."""
        config, ranges = self._config[0].__dict__, self._ranges
        scales = read_scales(self._folder)
        with paddle.utils.unique_name.guard("merge"):
            optimizer, schedule = _make_optimizer(self.train_config[0].__dict__)
            loss = paddle.mean(distillation_loss(pairs, config["loss"], config["alpha"]))
            loss.stop_gradient = False
            weights = [variable for variable in program.all_parameters() if is_trainable(variable)]
            weights = [
                one
                for one in weights
                if not ranges.is_parameter(one.name) and not is_constant(one.name, scales)
            ]
            gradients = optimizer.backward(loss, startup, weights)
            cheaper_gradients(program)
            learned = ranges.add_gradients(program, operators, self._quant.activation_bits)
            gradients = scale_gradients(program, paddle.static.global_scope(), gradients, scales)
            own = ranges.optimizer()
            optimizer.apply_gradients(gradients if own else gradients + learned)
            fixed = {}
            if own:
                own.apply_gradients(learned)
                fixed[own._global_learning_rate(program).name] = own.get_lr()
        if hasattr(program, "lr_scheduler"):
            del program.lr_scheduler  # an executor would write the rate before each step without our factors
        return loss, LearningRate(schedule, optimizer._global_learning_rate(program).name, fixed)

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
        """The teacher; its variables become inputs of the student's program."""
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
    """Raise `WeightsError` for a model that AutoCompression could not load."""
    with paddle.static.scope_guard(paddle.static.Scope()):
        load_model(folder, paddle.static.Executor(paddle.CPUPlace()))


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
