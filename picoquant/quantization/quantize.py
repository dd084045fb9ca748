"""Quantise an exported model: calibration, and QAT with distillation behind it; FP32 files to INT8 files."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picoquant.paddle_program.infer_config import FILE_NAME, InferConfig, write_infer_config
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.paddle_program.session import quiet, static_session
from picoquant.quantization.paths import QAT_LOG, QuantizationPaths
from picoquant.quantization.settings import DistillationSettings, QuantizationSections
from picoquant.storage.files import disk_errors, write_json
from picoquant.utils.progress import Progress

if TYPE_CHECKING:  # it imports paddle
    from picoquant.quantization.context import QuantizationContext

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class QuantizeResult:
    """What quantisation made.

    Attributes:
        metrics: `mAP` of the INT8 model kept (where it was measured), `best_step`, `evaluations` (step
            and mAP), `fp32_mAP` (where measured), `steps`, `quantized_operators`, `setup_seconds`,
            `fully_quantized` (see `full_check.py`).
        files: everything written, relative to the output folder.
    """

    metrics: dict[str, Any]
    files: tuple[str, ...]


def quantize(
    model_dir: Path,
    out_dir: Path,
    work_dir: Path,
    batches: Callable[[int], Any],
    settings: QuantizationSections,
    evaluate: Callable[[Any], float] | None = None,
    seed: int = 0,
    model_filename: str = MODEL,
    params_filename: str = PARAMS,
    config: InferConfig | None = None,
    progress: Callable[..., Progress] = Progress,
    calibration: Callable[[], Any] | None = None,
    pieces: Callable[[ModelFolder], Mapping[str, int]] | None = None,
    image_names: Sequence[str] = (),
) -> QuantizeResult:
    """Quantise an exported model as `Quantize.method` says; continues what was interrupted in `work_dir`.

    In a group of processes (`paddle.distributed.launch`) each gives its share of the batches and folders of its
    own; the leading one alone calibrates, evaluates and writes, the others have no metrics.

    Args:
        model_dir: folder of the FP32 model; it is not changed. `infer_cfg.yml` is copied from it.
        out_dir: gets `model.pdmodel`, `model.pdiparams` (for Paddle Lite and Paddle's runtime),
            `infer_cfg.yml`, `quantization.json`, `qat.csv` (of QAT), `qat_graph/` (the same network with rounding as
            operators, see `qat_graph.py`), and where `QuantAware.onnx_format` is true
            `onnx_format/`, the same model with the operators of ONNX.
        work_dir: for checkpoints and temporary files.
        batches: called with the number of steps done, gives an endless iterator of feeds: input name
            -> array with the batch first.
        settings: see there.
        evaluate: takes `predict(feed) -> [array]` and gives the mAP, 0 to 1.
        seed: of everything random.
        model_filename, params_filename: names in `model_dir`.
        config: stands in for `model_dir`'s `infer_cfg.yml`, which may then be absent.
        progress: makes the line that shows progress.
        calibration: gives the feeds that ranges are measured on; None: those of `batches`.
        pieces: counts an INT8 model's pieces on each NPU; for layers in float.
        image_names: of the images that `calibration` gives, in its order, for messages.

    Raises: `WeightsError` for a model that cannot be read or quantised, `ConfigError` for settings that do
        not fit it, `UserError` when the loss is not finite, `PicoquantError` when an operator of the result
        is not in INT8 though it should be.
    """
    began = time.monotonic()
    LOG.info("quantize: loading PaddleSlim and %s", model_dir)
    with quiet():
        import paddle

        from picoquant.backends.paddle.child_process import ChildRuntime
        from picoquant.backends.paddle.runtime import open_predictor
        from picoquant.paddle_program.finite import require_finite_params
        from picoquant.quantization.calibration_images import CalibrationImages
        from picoquant.quantization.context import QuantizationContext
        from picoquant.quantization.evaluation import ModelMetric
        from picoquant.quantization.processes import Processes
        from picoquant.training.fast import fast_convolutions_available, tuned_cpu
    folder = ModelFolder.open(model_dir, model_filename, params_filename, config)
    require_finite_params(folder)
    paths = QuantizationPaths(Path(out_dir), Path(work_dir))
    images = CalibrationImages(
        calibration or partial(batches, 0),
        max(settings.calibration_batches, 1),
        paths.calibration,
        image_names,
    )

    def count_pieces(path: Path) -> Mapping[str, int]:
        return pieces(ModelFolder.open(path, config=folder.config)) if pieces else {}

    try:
        processes = Processes()
        _copy_models(folder, settings.distillation, paths)
        fast = tuned_cpu() if fast_convolutions_available() else nullcontext()
        trained = settings.quantization.method == "qat"  # without training a predictor costs nothing here
        with ChildRuntime() as child, fast, static_session(), quiet():
            paddle.seed(seed)
            metric = None
            if evaluate:
                metric = ModelMetric(evaluate, child.open if trained else open_predictor, folder.config)
            context = QuantizationContext(
                paths,
                folder.config,
                settings,
                paths.fingerprint(asdict(settings.without_decisions()), seed),
                images,
                metric,
                progress,
                processes,
                count_pieces,
            )
            metrics = _run(context, batches, began)
    finally:
        shutil.rmtree(paths.copies, ignore_errors=True)
    if not processes.is_rank_0:
        return QuantizeResult(metrics, ())
    _complete_folder(paths, folder, config, trained)
    metrics.update(_check(paths.out, settings))
    files = (path for path in paths.out.rglob("*") if path.is_file())
    return QuantizeResult(metrics, tuple(sorted(str(path.relative_to(paths.out)) for path in files)))


def _run(context: QuantizationContext, batches: Callable[[int], Any], began: float) -> dict[str, Any]:
    """Prepare the student, train it where the method says so, write the INT8 model; the metrics are returned.

    They are empty in processes other than rank 0.
    """
    from picoquant.quantization.accuracy_control.control import keep_float_model
    from picoquant.quantization.ptq.pipeline import run_ptq
    from picoquant.quantization.ptq.prepare import open_student, prepare, share_student
    from picoquant.quantization.qat.pipeline import run_qat

    is_rank_0 = context.processes.is_rank_0
    keep_float_model(context)
    network = prepare(context) if is_rank_0 else None
    if context.settings.quantization.method == "ptq":
        return run_ptq(network, began) if is_rank_0 else {}
    share_student(context)
    return run_qat(network if is_rank_0 else open_student(context), batches, began)


def _complete_folder(
    paths: QuantizationPaths, folder: ModelFolder, config: InferConfig | None, trained: bool
) -> None:
    """Put beside the INT8 model what it is used with: `infer_cfg.yml`, and `qat.csv` where it was trained.

    Args:
        paths: of the quantisation.
        folder: the FP32 model's.
        config: stands in for the FP32 model's `infer_cfg.yml`.
        trained: whether the method is QAT.
    """
    from picoquant.quantization.qat_graph import FOLDER as QAT_GRAPH

    with disk_errors(paths.out):
        for place in (paths.out, paths.out / QAT_GRAPH):
            if config is None:
                shutil.copyfile(folder.path / FILE_NAME, place / FILE_NAME)
            else:
                write_infer_config(config, place)
        if trained:
            shutil.copyfile(paths.work / QAT_LOG, paths.out / QAT_LOG)


def _check(out: Path, settings: QuantizationSections) -> dict[str, Any]:
    """Look whether the model that was written is INT8 throughout, and note it in quantization.json.

    Raises: `PicoquantError` naming what is not.
    """
    from picoquant.int8.completeness import check_int8_model, require_whole
    from picoquant.quantization.save import DESCRIPTION

    quant = settings.quant
    if (quant.weight_bits, quant.activation_bits) != (8, 8):
        LOG.info("quantize: the full quantisation check is for 8 bits, so it is left out")
        return {}
    described = json.loads((out / DESCRIPTION).read_text(encoding="utf-8"))
    kept = [
        output
        for part in described.get("mixed_precision", {}).values()
        for layer in part["layers"]
        for output in layer["output"].split(", ")
    ]
    check = check_int8_model(out / MODEL, out / PARAMS, quant.quantize_op_types, kept)
    require_whole(check)
    write_json(out / DESCRIPTION, {**described, "full_check": check.as_dict()})
    LOG.info("quantize: checked %d operators, all have scales", check.operators)
    if check.several_scales:
        names = ", ".join(check.several_scales[0][:3])
        LOG.info(
            "quantize: %d groups of tensors that pass values on have several ranges, first %s: an NPU rounds "
            "once more there",
            len(check.several_scales),
            names,
        )
    return {"fully_quantized": not check.kept_float}


def _copy_models(folder: ModelFolder, distillation: DistillationSettings, paths: QuantizationPaths) -> None:
    """Copy student and teacher to where they are worked on, under the usual file names.

    Raises: `WeightsError` when there is no such teacher or Paddle crashes on it.
    """
    from picoquant.backends.paddle.smoke_test import require_tried

    teacher = folder
    if distillation.teacher_model_dir is not None:
        names = distillation.teacher_model_filename, distillation.teacher_params_filename
        teacher = ModelFolder.open(Path(distillation.teacher_model_dir), *names, folder.config)
        require_tried(teacher)
    with disk_errors(paths.copies):
        for copy, source in ((paths.student, folder), (paths.teacher, teacher)):
            copy.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.model, copy / MODEL)
            shutil.copyfile(source.params, copy / PARAMS)
