"""Quantise an exported model, FP32 files to INT8 files: PTQ, or QAT with distillation on top of it."""

from __future__ import annotations

import itertools
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from picoquant.backends.paddle.child_process import ChildRuntime
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.paddle.smoke_test import require_tried
from picoquant.paddle_program.finite import require_finite_params
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.paddle_program.program import copy_program
from picoquant.quantization.calibration_images import CalibrationImages
from picoquant.quantization.engine.arenas import use_one_arena
from picoquant.quantization.engine.session import dygraph_session, quiet
from picoquant.quantization.paths import QuantizationPaths
from picoquant.quantization.score import Score
from picoquant.quantization.settings import DistillationSettings, QuantizationSections
from picoquant.storage.files import disk_errors
from picoquant.utils.device import rank_and_world
from picoquant.utils.progress import Progress
from picoquant.weight_files.quantised import RANGES_FILE

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class QuantizeResult:
    """The outcome of a quantisation.

    Attributes:
        metrics: `mAP` of the INT8 model that was kept (where it was measured), `best_step`, `evaluations` (step, mAP
            and, where it was measured, fidelity), `fp32_mAP` (where measured), `steps`, `quantized_operators`,
            `setup_seconds`, `fully_quantized` (see `int8.completeness`).
        files: everything that was written, relative to the output folder.
    """

    metrics: dict[str, Any]
    files: tuple[str, ...]


def quantize(
    model_dir: Path,
    out_dir: Path,
    work_dir: Path,
    batches: Callable[[int], Any],
    settings: QuantizationSections,
    evaluate: Callable[[Any], Score] | None = None,
    seed: int = 0,
    model_filename: str = MODEL,
    params_filename: str = PARAMS,
    config: InferConfig | None = None,
    progress: Callable[..., Progress] = Progress,
    calibration: Callable[[], Any] | None = None,
    pieces: Callable[[ModelFolder], Mapping[str, int]] | None = None,
    image_names: Sequence[str] = (),
    calibration_share: Callable[[int, int], Any] | None = None,
) -> QuantizeResult:
    """Quantise an exported model by `Quantize.method`; what was interrupted in `work_dir` is continued.

    In a group of processes (`paddle.distributed.launch`) each passes its share of the batches and folders of its own;
    rank 0 alone evaluates and writes, the others return no metrics. They share the images that ranges are measured on.

    Args:
        model_dir: folder of the FP32 model; it is not changed. its `infer_cfg.yml` or
            `inference.yml` is copied.
        out_dir: receives `model.pdmodel`, `model.pdiparams` (for Paddle Lite and Paddle's runtime), `infer_cfg.yml`,
            `quantization.json`, `qat.csv` (of QAT), `qat_graph/` (the same network with rounding as operators, see
            `qat_graph.py`), and where `QuantAware.onnx_format` is true `onnx_format/`, the same model with the
            operators of ONNX.
        work_dir: for checkpoints and temporary files.
        batches: called with the number of steps done, returns an endless iterator of feeds: arrays by input name, the
            batch first.
        settings: all sections.
        evaluate: called with `predict(feed) -> [array]`, returns how well that detects; None: nothing is evaluated.
        seed: of everything random.
        model_filename, params_filename: names in `model_dir`.
        config: stands in for `model_dir`'s `infer_cfg.yml`, which may then be absent.
        progress: creates a progress line.
        calibration: opens the feeds that ranges are measured on; None: those of `batches`.
        pieces: counts an INT8 model's pieces on each NPU; for layers in float.
        image_names: of the calibration images, in order, for messages.
        calibration_share: called with the rank and the number of the processes, opens the feeds of `calibration`
            number rank, rank + number …; None: they are picked out of all.

    Raises: `WeightsError` for a model that cannot be read or quantised, `ConfigError` for settings that do
        not fit it, `UserError` when the loss is not finite, `PicoquantError` when an operator of the result
        is not in INT8 though it should be.
    """
    began = time.monotonic()
    LOG.info("quantize: loading %s", model_dir)
    with quiet():
        import paddle

        from picoquant.quantization.context import QuantizationContext
        from picoquant.quantization.engine.convolution import Convolutions
        from picoquant.quantization.evaluation import ModelMetric
        from picoquant.quantization.processes import Processes
        from picoquant.quantization.run import run
        from picoquant.quantization.save import check_written, complete_folder
        from picoquant.training.fast import fast_convolutions_available, tuned_cpu
    folder = ModelFolder.open(model_dir, model_filename, params_filename, config)
    require_finite_params(folder)
    paths = QuantizationPaths(Path(out_dir), Path(work_dir))
    images = _calibration_images(
        calibration or partial(batches, 0),
        calibration_share,
        max(settings.calibration_batches, 1),
        paths.calibration,
        image_names,
    )

    def count_pieces(path: Path) -> Mapping[str, int]:
        return pieces(ModelFolder.open(path, config=folder.config)) if pieces else {}

    use_one_arena()
    try:
        processes = Processes()
        _copy_models(folder, settings.distillation, paths)
        fast = tuned_cpu() if fast_convolutions_available() else nullcontext()
        trained = settings.quantization.method == "qat"  # without training a predictor costs nothing here
        with ChildRuntime() as child, fast, dygraph_session(), quiet():
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
                Convolutions(fast_convolutions_available()),
            )
            metrics = run(context, batches, began)
    finally:
        shutil.rmtree(paths.copies, ignore_errors=True)
    if not processes.is_rank_0:
        return QuantizeResult(metrics, ())
    complete_folder(paths, folder, config, trained)
    metrics.update(check_written(paths.out, settings.quant, settings.quantization.engine == "picoquant"))
    files = (path for path in paths.out.rglob("*") if path.is_file())
    return QuantizeResult(metrics, tuple(sorted(str(path.relative_to(paths.out)) for path in files)))


def _calibration_images(
    every: Callable[[], Any],
    share: Callable[[int, int], Any] | None,
    count: int,
    folder: Path,
    names: Sequence[str],
) -> CalibrationImages:
    """All of them in rank 0, in other processes their share."""
    rank, world = rank_and_world()
    if rank == 0:
        return CalibrationImages(every, count, folder, names)

    def mine() -> Iterator[Any]:
        if share is not None:
            return share(rank, world)
        return itertools.islice(every(), rank, None, world)

    return CalibrationImages(mine, len(range(rank, count, world)), folder, names, (rank, world))


def _copy_models(folder: ModelFolder, distillation: DistillationSettings, paths: QuantizationPaths) -> None:
    """Copy student and teacher to where they are worked on, under the usual file names.

    Raises: `WeightsError` when there is no such teacher, it takes another input, or Paddle crashes on it.
    """

    teacher = folder
    if distillation.teacher_model_dir is not None:
        names = distillation.teacher_model_filename, distillation.teacher_params_filename
        teacher = ModelFolder.open(Path(distillation.teacher_model_dir), *names, folder.config)
        require_tried(teacher)
    with disk_errors(paths.copies):
        for copy, source in ((paths.student, folder), (paths.teacher, teacher)):
            copy.mkdir(parents=True, exist_ok=True)
            copy_program(source.model, copy / MODEL)
            shutil.copyfile(source.params, copy / PARAMS)
        if (folder.path / RANGES_FILE).is_file():
            shutil.copyfile(folder.path / RANGES_FILE, paths.student / RANGES_FILE)
