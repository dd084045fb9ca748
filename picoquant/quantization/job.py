"""One quantisation, from copies of the models to the INT8 files; runs inside a static session."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle

from picoquant.errors import ConfigError, PicoquantError, UserError
from picoquant.int8.activations import target_tensors, unified_ranges
from picoquant.int8.build import Int8Source, build_network
from picoquant.int8.fake_quant_run import load_source, save_full_integer_simulation
from picoquant.int8.ignored_layers import leaving_marked
from picoquant.int8.operators import QuantizedOperator, quantizable_operators
from picoquant.int8.paddle_writer import write_lite_model
from picoquant.int8.tie_avoidance import Product, products_of, tie_free_ranges
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.static import free_variables, load_model
from picoquant.quantization.mixed_precision import Pieces, Tools, named_by_user, reach_max_drop
from picoquant.quantization.paths import Places
from picoquant.quantization.ptq.calibration_images import CalibrationImages
from picoquant.quantization.ptq.observers import NotFiniteError, observe_ranges
from picoquant.quantization.ptq.prepare import FILES, Student, make_ready
from picoquant.quantization.ptq.range_search import without_zeros
from picoquant.quantization.qat.checkpoint import Checkpoints, QatProgress
from picoquant.quantization.qat.distributed import Devices
from picoquant.quantization.qat.divergence_guard import GoodStates
from picoquant.quantization.qat.learning_rate import linear_scale
from picoquant.quantization.qat.programs import QatPrograms, StudentFirstCompression
from picoquant.quantization.qat.range_init import calibrate, trained_ranges
from picoquant.quantization.qat.trainer import QatTrainer, close_batches
from picoquant.quantization.save import DESCRIPTION, write_model
from picoquant.quantization.settings import NO_EVALUATION, QuantizeSettings
from picoquant.storage.checkpoints import packed, unpacked
from picoquant.storage.csv_log import CsvLog
from picoquant.storage.files import write_json
from picoquant.utils.progress import Progress, duration

LOG = logging.getLogger("picoquant")

_LOG_FIELDS = ("step", "loss", "lr", "mAP")
# PaddleSlim refuses a model whose mAP is further than this from origin_metric.
_ORIGIN_TOLERANCE = 0.05
_RANKED_ON = 4  # images on which layers are ranked


class QuantizeJob:
    """One quantisation, inside a static session.

    Args:
        places: where things are.
        settings: of everything.
        seed: of everything random.
        evaluate: takes a predictor and gives the mAP, 0 to 1; None: nothing is evaluated.
        show: makes the line that shows progress.
        devices: the processes that train together; the leading one evaluates and writes the model.
        open_model: gives what runs a model that is evaluated, as `backends.paddle.runtime.open_predictor` does.
        calibration: gives the feeds that ranges are measured on; called once.
        pieces: counts an INT8 model's NPU pieces, see `mixed_precision.py`.
        image_names: of the calibration images, in order.
    """

    def __init__(
        self,
        places: Places,
        settings: QuantizeSettings,
        seed: int,
        evaluate: Callable[[Any], float] | None,
        show: Callable[..., Progress],
        devices: Devices,
        open_model: Callable[[ModelFolder], Any],
        calibration: Callable[[], Any],
        pieces: Pieces | None = None,
        image_names: Sequence[str] = (),
    ) -> None:
        self._devices, self._open = devices, open_model
        self._places, self._settings, self._evaluate, self._show = places, settings, evaluate, show
        self._pieces, self._image_names = pieces, image_names
        self._calibration, self._images = calibration, None
        self._student: Student | None = None
        self._largest: dict[str, float] = {}
        self._groups: tuple[tuple[str, ...], ...] = ()
        self._products: tuple[Product, ...] = ()
        self._all: tuple[QuantizedOperator, ...] = ()
        # What is decided after quantisation does not make it start again.
        own = replace(settings.own, max_drop=None, allow_float=False)
        self._fingerprint = places.fingerprint(replace(settings, own=own), seed)

    def run(self, batches: Callable[[int], Any], began: float) -> dict[str, Any]:
        """All of it.

        Args:
            batches: called with the number of steps done, gives an endless iterator of feeds.
            began: `time.monotonic()` of the start, for the set-up's seconds.

        Returns: the metrics; none in a process that does not lead.
        """
        self._keep_fp32()
        student = self._student = self._make_ready() if self._devices.leads else None
        if self._settings.own.method == "ptq" and student is None:
            return {}
        if self._settings.own.method != "ptq":
            self._share_student()
        if self._settings.own.keep_float:
            self._all = self._operators()
            self._settings = replace(self._settings, quant=leaving_marked(self._settings.quant))
        self._groups, self._products = self._find_groups()
        if self._settings.own.method == "ptq":
            return self._calibrated(student, began)
        programs = self._build()
        trainer, progress, good = self._prepare(programs, student)
        setup = time.monotonic() - began
        LOG.info(
            "quantize: ready after %s: %d operators in INT8; step %d of %d",
            duration(setup),
            len(programs.operators),
            progress.step,
            trainer.steps,
        )
        trainer.run(batches, progress, good)
        if not self._devices.leads:
            return {}
        self._take_best(trainer, progress)
        mixed = self._write(programs, trainer, progress.best if progress.evaluations else None)
        metrics: dict[str, Any] = {
            "steps": progress.step,
            "quantized_operators": len(programs.operators),
            "setup_seconds": round(setup, 1),
        }
        if progress.evaluations:
            metrics.update(
                mAP=progress.best,
                best_step=progress.best_step,
                evaluations=[list(pair) for pair in progress.evaluations],
            )
        metrics.update(mixed)
        if progress.original_metric is not None:
            metrics["fp32_mAP"] = progress.original_metric
        if progress.rollbacks:
            metrics.update(rollbacks=progress.rollbacks)
        if progress.gave_up:
            metrics["gave_up"] = True
        return metrics

    def _take_best(self, trainer: QatTrainer, progress: QatProgress) -> None:
        """Put the variables of the best evaluation into the scope; without evaluations the last stay."""
        if progress.best_step in (None, progress.step):
            return
        best = trainer.checkpoints.load_best(progress.best_step)
        if best is None:
            raise PicoquantError(
                f"the weights of step {progress.best_step} are gone from {self._places.work}; delete that "
                "folder and run again"
            )
        trainer.restore(best, progress)

    def _build(self) -> QatPrograms:
        settings = self._settings
        LOG.info("quantize: reading the model and finding what to distil")
        compression = StudentFirstCompression(
            self._places.student,
            self._places.copies / "teacher",
            self._places.copies,
            self._places.config,
            settings.distillation,
            settings.quant,
            settings.train,
            linear_scale(settings.batch_size, self._devices.world, settings.own.reference_batch)
            if settings.batch_size
            else 1.0,
            settings.own.lsq_rate if settings.own.learned_ranges == "lsq" else None,
        )
        return compression.build(lambda what: LOG.info("quantize: %s", what))

    def _make_ready(self) -> Student:
        """Fold, equalise and calibrate the student; the teacher stays the model as it was given."""
        settings, places = self._settings, self._places

        def images() -> CalibrationImages | None:
            if not settings.calibration_batches:
                return None
            return self._calibration_images()

        def shown(title: str, count: int) -> Callable[[int], None]:
            line = self._show(title, count, unit="batch")
            line.update(0)
            return line.update

        return make_ready(
            places.student,
            places.work / "student",
            self._fingerprint,
            images,
            settings.own,
            settings.quant,
            shown,
        )

    def _share_student(self) -> None:
        """Give the files of the leading process's student to the others."""
        if self._devices.world == 1:
            return
        for name in FILES:
            file = self._places.student / name
            content = self._devices.share(file.read_bytes() if self._devices.leads else None)
            if not self._devices.leads:
                file.write_bytes(content)

    def _calibrated(self, student: Student, began: float) -> dict[str, Any]:
        """Post-training quantisation: write and evaluate what calibration found."""
        if not student.ranges:
            raise UserError("Quantize.method: ptq needs calibration images, and none are used")
        executor = paddle.static.Executor(paddle.CPUPlace())
        operators = self._operators()
        ranges = self._tie_free(student.ranges)
        source = Int8Source(self._places.student, {}, ranges, operators, self._settings.quant)
        write_model(source, executor, self._places.out, self._places.config)
        metrics: dict[str, Any] = {
            "method": "ptq",
            "quantized_operators": len(operators),
            "calibration_images": student.images,
            "equalised_tensors": len(student.equalised),
        }
        if self._evaluate:
            metrics["mAP"] = float(self._evaluate(self._predictor(self._places.out)))
            LOG.info("quantize: INT8 mAP %.4f", metrics["mAP"])
        mixed, source = self._mixed(source, executor, metrics.get("mAP"), student.as_float)
        metrics.update(mixed)
        if self._evaluate:
            metrics["every_tensor_mAP"] = self._every_tensor(source, executor)
        metrics["seconds"] = round(time.monotonic() - began, 1)
        return metrics

    def _every_tensor(self, source: Int8Source, executor: Any) -> float:
        """mAP with every tensor in INT8, see `every_tensor.py`."""
        places = self._places
        with paddle.static.scope_guard(paddle.static.Scope()):
            model = load_source(source, executor)
            folder = save_full_integer_simulation(
                build_network(source), model, executor, places.copies / "every_tensor", places.config
            )
        value = float(self._evaluate(self._open(folder)))
        LOG.info("quantize: INT8 mAP %.4f with every tensor in INT8, as an NPU computes (simulated)", value)
        return value

    def _prepare(
        self, programs: QatPrograms, student: Student | None
    ) -> tuple[QatTrainer, QatProgress, GoodStates]:
        """The trainer, and where all processes start: the leading one's checkpoint or calibrated ranges."""
        settings = self._settings
        checkpoints = Checkpoints(self._places.work, self._fingerprint)
        trainer = QatTrainer(
            programs=programs,
            settings=settings.train,
            steps=settings.train.steps(settings.steps_per_epoch),
            checkpoints=checkpoints,
            every=settings.checkpoint_seconds,
            log=lambda step: CsvLog(self._places.work / "qat.csv", _LOG_FIELDS, step),
            show=self._show,
            measure=self._measure(programs) if self._evaluate else None,
            own=settings.own,
            calibrated=bool(settings.calibration_batches),
            devices=self._devices,
        )
        if not self._devices.leads:
            found = checkpoints.of_checkpoint(unpacked(self._devices.share(None)))
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
            progress, good = QatProgress(original_metric=self._original_metric()), GoodStates()
            if student and student.ranges:
                calibrate(programs, student.ranges, settings.quant)
        if self._devices.leads and self._devices.world > 1:
            self._devices.share(packed(checkpoints.checkpoint(trainer.state(), progress, good)))
        return trainer, progress, good

    def _original_metric(self) -> float | None:
        """mAP of the FP32 model, measured where `origin_metric` asks for it."""
        expected = self._settings.train.origin_metric
        if self._evaluate is None or expected is None:
            return None
        LOG.info("quantize: evaluating the FP32 model, which TrainConfig.origin_metric describes")
        value = float(self._evaluate(self._predictor(self._places.student)))
        if abs(value - expected) > _ORIGIN_TOLERANCE:
            raise UserError(
                f"TrainConfig.origin_metric is {expected:g} but the FP32 model reaches {value:.4f} on the "
                "evaluation images: correct origin_metric, or the images and how they are prepared"
            )
        return value

    def _calibration_images(self) -> CalibrationImages:
        """The calibration batches, at least one; read at the first use."""
        if self._images is None:
            source = self._calibration()
            count = max(self._settings.calibration_batches, 1)
            try:
                folder = self._places.copies / "calibration"
                self._images = CalibrationImages(source, count, folder, self._image_names)
            finally:
                close_batches(source)
        return self._images

    def _shown(self, what: str) -> Callable[[int], None]:
        """Progress over the calibration batches, started under the name of what is done."""
        line = self._show(what, max(self._settings.calibration_batches, 1), unit="batch")
        line.update(0)
        return line.update

    def _predictor(self, folder: Path) -> Any:
        return self._open(ModelFolder.open(folder, config=self._places.config))

    def _measure(self, programs: QatPrograms) -> Callable[[dict[str, Any]], float]:
        """Evaluate the very model that would be written: rounding makes any other form differ a little.

        All processes get the leading one's number, so that they decide the same.
        """

        def measure(state: dict[str, Any]) -> float:
            if not self._devices.leads:
                return float(self._devices.share(None).decode())
            value = measured(state)
            self._devices.share(repr(value).encode())
            return value

        def measured(state: dict[str, Any]) -> float:
            folder = self._places.copies / "int8"
            try:
                ranges = without_zeros(self._ranges(programs), say=False)
            except NotFiniteError as error:
                LOG.warning("quantize: %s; its mAP counts as 0", error)
                return 0.0
            source = self._source(programs, state, ranges)
            write_lite_model(build_network(source), folder)
            return float(self._evaluate(self._predictor(folder)))

        return measure

    def _ranges(self, programs: QatPrograms) -> dict[str, float]:
        """The range of every activation in the quantised network as it is now.

        Where calibration chose less than the largest value, the same part of what is the largest now.
        """
        title = "quantize: measuring the ranges of all results"
        executor = paddle.static.Executor(paddle.CPUPlace())  # which keeps what it ran
        now = observe_ranges(programs.test, executor, self._calibration_images(), self._shown(title))
        chosen = self._student.ranges
        if chosen and not self._largest:
            self._largest = self._largest_of_student()
        part = {name: chosen[name] / top for name, top in self._largest.items() if top > 0 and name in chosen}
        return {name: value * part.get(name, 1.0) for name, value in now.items()}

    def _largest_of_student(self) -> dict[str, float]:
        """The largest absolute value of every activation of the student in float, averaged over batches.

        Kept for a run that continues: measured again, their last bits may differ.
        """
        kept = self._places.work / "largest.json"
        if kept.is_file():
            found = json.loads(kept.read_text(encoding="utf-8"))
            if found["fingerprint"] == self._fingerprint:
                return found["largest"]
        scope, executor = paddle.static.Scope(), paddle.static.Executor(paddle.CPUPlace())
        with paddle.static.scope_guard(scope):
            model = load_model(self._places.student, executor)
            shown = self._shown("quantize: measuring the FP32 model's ranges")
            found = observe_ranges(model, executor, self._calibration_images(), shown)
            free_variables(model.program, scope)
        write_json(kept, {"fingerprint": self._fingerprint, "largest": found})
        return found

    def _source(self, programs: QatPrograms, state: dict[str, Any], ranges: dict[str, float]) -> Int8Source:
        ranges = {**ranges, **trained_ranges(programs.operators, state)}
        learnt = {operator.activation for operator in programs.operators}
        ranges = unified_ranges(ranges, self._groups, learnt)
        ranges = self._tie_free(ranges)
        operators, quant = programs.operators, self._settings.quant
        return Int8Source(self._places.student, state, ranges, operators, quant)

    def _write(
        self,
        programs: QatPrograms,
        trainer: QatTrainer,
        best: float | None,
    ) -> dict[str, Any]:
        """The INT8 model and a description, from the variables in scope; returns what is known of the files."""
        ranges = without_zeros(self._ranges(programs))
        source = self._source(programs, trainer.state(), ranges)
        write_model(source, programs.executor, self._places.out, self._places.config)
        metrics, source = self._mixed(source, programs.executor, best, {})
        if self._evaluate:
            metrics["every_tensor_mAP"] = self._every_tensor(source, programs.executor)
        return metrics

    def _keep_fp32(self) -> None:
        """Keep the FP32 files where their mAP is wanted at the end: the student's are replaced."""
        own, places = self._settings.own, self._places
        if own.max_drop is not None:
            if self._evaluate is None:
                raise ConfigError(NO_EVALUATION)
            shutil.copytree(places.student, places.fp32)

    def _operators(self) -> tuple[QuantizedOperator, ...]:
        """All layers of the student, those that stay in float among them."""
        with paddle.static.scope_guard(paddle.static.Scope()):
            executor = paddle.static.Executor(paddle.CPUPlace())
            program = load_model(self._places.student, executor).program
            return quantizable_operators(program, self._settings.quant)

    def _find_groups(self) -> tuple[tuple[tuple[str, ...], ...], tuple[Product, ...]]:
        """Tensors of the student that must have one range, and the products and means between them."""
        with paddle.static.scope_guard(paddle.static.Scope()):
            model = load_model(self._places.student, paddle.static.Executor(paddle.CPUPlace()))
            graph = model.graph()
            return target_tensors(graph).groups, products_of(graph)

    def _tie_free(self, ranges: Mapping[str, float]) -> dict[str, float]:
        return tie_free_ranges(ranges, self._products, self._groups, self._settings.quant.activation_bits)

    def _mixed(
        self,
        source: Int8Source,
        executor: Any,
        int8: float | None,
        as_float: Mapping[str, Any],
    ) -> tuple[dict[str, Any], Int8Source]:
        """Leave layers in float as the settings say; returns metrics, and what the model is made from then.

        Args:
            source: what the model was written from; where more layers stay in float it is written again.
            executor: of Paddle.
            int8: mAP of the model written, where measured.
            as_float: see `student.Student`.
        """
        own, places = self._settings.own, self._places

        def write(other: Int8Source) -> Path:
            write_lite_model(build_network(other), places.copies / "int8")
            return places.copies / "int8"

        def evaluate(folder: Path) -> float:
            return float(self._evaluate(self._predictor(folder)))

        pieces = self._pieces or (lambda folder: {})
        tools = Tools(executor, places.config, write, evaluate, pieces)
        noted: dict[str, Any] = {}
        if own.keep_float:
            noted["keep_float"] = named_by_user(source, tools, self._all).as_dict()
        if own.max_drop is not None:
            int8 = evaluate(places.out) if int8 is None else int8
            LOG.info("quantize: evaluating the FP32 model, which Quantize.max_drop is counted from")
            fp32 = evaluate(places.fp32)
            mixed, chosen = reach_max_drop(source, tools, self._few, own.max_drop, fp32, int8, as_float)
            noted["max_drop"] = mixed.as_dict()
            if mixed.layers:
                source = chosen
                write_model(source, executor, self._places.out, self._places.config)
                int8 = next(trial.mAP for trial in mixed.trials if trial.layers == len(mixed.layers))
        if not noted:
            return {}, source
        path = places.out / DESCRIPTION
        described = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, {**described, "mixed_precision": noted})
        metrics = {"mixed_precision": noted, "quantized_operators": len(source.operators)}
        return {**metrics, **({} if int8 is None else {"mAP": int8})}, source

    def _few(self) -> list[Any]:
        """Calibration batches with a few images."""
        few: list[Any] = []
        for batch in self._calibration_images():
            few.append(batch)
            if sum(len(next(iter(feed.values()))) for feed in few) >= _RANKED_ON:
                break
        return few
