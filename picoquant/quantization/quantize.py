"""Quantise an exported model: QAT with distillation, from FP32 files to INT8 files."""

from __future__ import annotations

import hashlib
import itertools
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.csv_log import CsvLog
from picoquant.errors import PicoquantError, UserError
from picoquant.export.infer_config import FILE_NAME, InferConfig, write_infer_config
from picoquant.export.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.files import disk_errors, sha256, write_json
from picoquant.progress import Progress, duration
from picoquant.quantization.session import quiet, static_session
from picoquant.quantization.settings import (
    DistillationSettings,
    QatTrainSettings,
    QuantAwareSettings,
)

LOG = logging.getLogger("picoquant")

ONNX_FOLDER = "onnx_format"
_LOG_FIELDS = ("step", "loss", "lr", "mAP")
# PaddleSlim refuses a model whose mAP is further than this from origin_metric.
_ORIGIN_TOLERANCE = 0.05


@dataclass(frozen=True)
class QuantizeResult:
    """What quantisation made.

    Attributes:
        metrics: `mAP` of the INT8 model kept (where it was measured), `best_step`, `evaluations` (step
            and mAP), `fp32_mAP` (where measured), `steps`, `quantized_operators`, `setup_seconds`.
        files: everything written, relative to the output folder.
    """

    metrics: dict[str, Any]
    files: tuple[str, ...]


@dataclass(frozen=True)
class QuantizeSettings:
    """The three sections, and what AutoCompression has no key for.

    Attributes:
        distillation, quant, train: sections `Distillation`, `QuantAware`, `TrainConfig`.
        calibration_batches: batches whose activations set the ranges before step 1; 0: none, as PaddleSlim.
        checkpoint_seconds: between two checkpoints.
        steps_per_epoch: batches in a pass over the images, for `TrainConfig.epochs`.
    """

    distillation: DistillationSettings
    quant: QuantAwareSettings
    train: QatTrainSettings
    calibration_batches: int = 8
    checkpoint_seconds: float = 20.0
    steps_per_epoch: int | None = None


def quantize(
    model_dir: Path,
    out_dir: Path,
    work_dir: Path,
    batches: Callable[[int], Any],
    settings: QuantizeSettings,
    evaluate: Callable[[Any], float] | None = None,
    seed: int = 0,
    model_filename: str = MODEL,
    params_filename: str = PARAMS,
    config: InferConfig | None = None,
    progress: Callable[..., Progress] = Progress,
) -> QuantizeResult:
    """Quantise an exported model by QAT with distillation; continues what was interrupted in `work_dir`.

    Args:
        model_dir: folder of the FP32 model; it is not changed. `infer_cfg.yml` is copied from it.
        out_dir: gets `model.pdmodel`, `model.pdiparams` (for Paddle Lite and Paddle's runtime),
            `onnx_format/` with the same for paddle2onnx, `infer_cfg.yml`, `quantization.json`, `qat.csv`.
        work_dir: for checkpoints and temporary files.
        batches: called with the number of steps done, gives an endless iterator of feeds: input name
            -> array with the batch first.
        settings: see there.
        evaluate: takes `predict(feed) -> [array]` and gives the mAP, 0 to 1.
        seed: of everything random.
        model_filename, params_filename: names in `model_dir`.
        config: stands in for `model_dir`'s `infer_cfg.yml`, which may then be absent.
        progress: makes the line that shows progress.

    Raises: `WeightsError` for a model that cannot be read or quantised, `ConfigError` for settings that do
        not fit it, `UserError` when the loss is not finite.
    """
    began = time.monotonic()
    LOG.info("quantise: loading PaddleSlim and %s", model_dir)
    with quiet():
        import paddle

        import picoquant.quantization.compressor  # noqa: F401  its imports warn
    folder = ModelFolder.open(model_dir, model_filename, params_filename, config)
    copies = Path(work_dir) / "models"
    try:
        _copy_models(folder, settings.distillation, copies)
        with static_session(), quiet():
            paddle.seed(seed)
            job = _Job(copies, Path(out_dir), Path(work_dir), settings, seed, evaluate, progress)
            metrics = job.run(batches, began)
    finally:
        shutil.rmtree(copies, ignore_errors=True)
    with disk_errors(Path(out_dir)):
        if config is None:
            shutil.copyfile(folder.path / FILE_NAME, Path(out_dir) / FILE_NAME)
        else:
            write_infer_config(config, Path(out_dir))
        shutil.copyfile(Path(work_dir) / "qat.csv", Path(out_dir) / "qat.csv")
    files = (path for path in Path(out_dir).rglob("*") if path.is_file())
    return QuantizeResult(metrics, tuple(sorted(str(path.relative_to(out_dir)) for path in files)))


def _copy_models(folder: ModelFolder, distillation: DistillationSettings, copies: Path) -> None:
    """Work on copies, `student` and `teacher`, whose files have the usual names."""
    teacher = folder
    if distillation.teacher_model_dir is not None:
        names = distillation.teacher_model_filename, distillation.teacher_params_filename
        teacher = ModelFolder.open(Path(distillation.teacher_model_dir), *names, folder.config)
    with disk_errors(copies):
        for name, source in (("student", folder), ("teacher", teacher)):
            (copies / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.model, copies / name / MODEL)
            shutil.copyfile(source.params, copies / name / PARAMS)


class _Job:
    """One quantisation, inside a static session."""

    def __init__(
        self,
        copies: Path,
        out_dir: Path,
        work_dir: Path,
        settings: QuantizeSettings,
        seed: int,
        evaluate: Callable[[Any], float] | None,
        show: Callable[..., Progress],
    ) -> None:
        self._copies, self._out, self._work = copies, out_dir, work_dir
        self._student = copies / "student"
        self._settings, self._evaluate, self._show = settings, evaluate, show
        files = [copies / name / file for name in ("student", "teacher") for file in (MODEL, PARAMS)]
        text = f"{settings} {seed} {[sha256(file) for file in files]}"
        self._fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def run(self, batches: Callable[[int], Any], began: float) -> dict[str, Any]:
        """All of it; returns the metrics."""
        programs = self._build()
        trainer, progress = self._prepare(programs, batches, began)
        setup = time.monotonic() - began
        LOG.info(
            "quantise: ready after %s: %d operators in INT8; step %d of %d",
            duration(setup),
            len(programs.operators),
            progress.step,
            trainer.steps,
        )
        feeds = batches(progress.step)
        try:
            trainer.run(feeds, progress)
        finally:
            close_batches(feeds)
        if progress.best_step is not None and progress.best_step != progress.step:
            best = trainer.checkpoints.load_best(progress.best_step)
            if best is None:
                raise PicoquantError(
                    f"the weights of step {progress.best_step} are gone from {self._work}; delete that "
                    "folder and run again"
                )
            trainer.restore(best, progress)
        self._write(programs, trainer, batches)
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
        if trainer.original_metric is not None:
            metrics["fp32_mAP"] = trainer.original_metric
        return metrics

    def _build(self) -> Any:
        from picoquant.quantization.compressor import StudentFirstCompression

        settings = self._settings
        LOG.info("quantise: reading the model and finding what to distil")
        compression = StudentFirstCompression(
            self._student,
            self._copies / "teacher",
            self._copies,
            settings.distillation,
            settings.quant,
            settings.train,
        )
        return compression.build(lambda what: LOG.info("quantise: %s", what))

    def _prepare(self, programs: Any, batches: Callable[[int], Any], began: float) -> tuple:
        """The trainer, and where it starts: a checkpoint, or calibrated ranges."""
        from picoquant.quantization.calibration import calibrate
        from picoquant.quantization.checkpoint import Checkpoints, QatProgress
        from picoquant.quantization.training import QatTrainer

        settings = self._settings
        checkpoints = Checkpoints(self._work, self._fingerprint)
        found = checkpoints.load()
        original = self._original_metric(programs) if found is None else found[1].original_metric
        trainer = QatTrainer(
            programs=programs,
            settings=settings.train,
            steps=settings.train.steps(settings.steps_per_epoch),
            checkpoints=checkpoints,
            every=settings.checkpoint_seconds,
            log=CsvLog(self._work / "qat.csv", _LOG_FIELDS, found[1].step if found else 0),
            show=self._show,
            evaluate=self._evaluate,
            original_metric=original,
        )
        if found is not None:
            LOG.info("quantise: continuing after step %d of an interrupted run", found[1].step)
            trainer.restore(*found)
            return trainer, found[1]
        if settings.calibration_batches:
            calibrate(programs, self._calibration(batches), settings.quant, self._shown)
        return trainer, QatProgress(original_metric=original)

    def _original_metric(self, programs: Any) -> float | None:
        """mAP of the FP32 model, measured where `origin_metric` asks for it."""
        from picoquant.quantization.training import predictor

        expected = self._settings.train.origin_metric
        if self._evaluate is None or expected is None:
            return None
        LOG.info("quantise: evaluating the FP32 model, which TrainConfig.origin_metric describes")
        value = float(self._evaluate(predictor(programs.executor, programs.original)))
        if abs(value - expected) > _ORIGIN_TOLERANCE:
            raise UserError(
                f"TrainConfig.origin_metric is {expected:g} but the FP32 model reaches {value:.4f} on the "
                "evaluation images: correct origin_metric, or the images and how they are prepared"
            )
        return value

    def _calibration(self, batches: Callable[[int], Any]) -> Any:
        source = batches(0)
        try:
            yield from itertools.islice(source, max(self._settings.calibration_batches, 1))
        finally:
            close_batches(source)

    def _shown(self, what: str) -> Callable[[int], None]:
        """Progress over the calibration batches, started under the name of what is done."""
        line = self._show(what, max(self._settings.calibration_batches, 1), unit="batch")
        line.update(0)
        return line.update

    def _write(self, programs: Any, trainer: Any, batches: Callable[[int], Any]) -> None:
        """Both INT8 forms and a description, from the variables in scope."""
        from picoquant.quantization.calibration import deployed_ranges
        from picoquant.quantization.int8_model import (
            Int8Source,
            write_lite_model,
            write_onnx_model,
        )

        ranges = deployed_ranges(programs, self._calibration(batches), self._shown)
        source = Int8Source(
            self._student,
            trainer.state(),
            ranges,
            programs.operators,
            self._settings.quant,
        )
        LOG.info("quantise: writing the INT8 model to %s", self._out)
        executor = programs.executor
        write_lite_model(source, executor, self._out)
        write_onnx_model(source, executor, self._out / ONNX_FOLDER)
        write_json(self._out / "quantization.json", _description(source))


def close_batches(source: Any) -> None:
    """End a generator now, so that what it holds (worker processes) is free."""
    if hasattr(source, "close"):
        source.close()


def _description(source: Any) -> dict[str, Any]:
    """What is in INT8 and all ranges, for a reader without Paddle."""
    quant = source.settings
    return {
        "weight_bits": quant.weight_bits,
        "activation_bits": quant.activation_bits,
        "operators": [
            {
                "type": operator.kind,
                "output": operator.output,
                "activation": operator.activation,
                "activation_range": source.ranges[operator.activation],
                "weight": operator.weight,
                "weight_axis": operator.axis,
            }
            for operator in source.operators
        ],
        "ranges": dict(source.ranges),
    }
