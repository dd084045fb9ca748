"""`picoquant analyze`: which layers lose accuracy in INT8; of a run's models, or of a model folder."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable

from picoquant.backends.paddle.smoke_test import require_tried
from picoquant.errors import UserError
from picoquant.evaluation.fidelity import agreement, detections_as_objects
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import select_inputs
from picoquant.paddle_program.program import program_facts
from picoquant.postprocess.decoder import Decoder
from picoquant.quantization.analysis.quantities import picodet_quantities
from picoquant.quantization.engine.session import dygraph_session, quiet
from picoquant.quantization.score import Score
from picoquant.stages import datasets
from picoquant.stages.evaluating import evaluate_model, evaluation_images
from picoquant.stages.plan import load_plan
from picoquant.stages.run_models import fp32_model, int8_model
from picoquant.stages.stage import Context
from picoquant.storage.run_folder import RunFolder
from picoquant.utils.progress import Progress

LOG = logging.getLogger("picoquant")

FOLDER = "analyze"
PICTURE = "analysis.png"
KINDS = ("fp32", "int8")


@dataclass(frozen=True)
class AnalyzeOptions:
    """What is analysed.

    Attributes:
        kind: `fp32` or `int8`; None: what a model named by this command is, else the run's INT8 model where it has
            one.
        images: how many of the calibration images.
        map_images: evaluation images for mAP; 0: no mAP.
        top: layers whose mAP is measured.
        out: folder of the files; None: `analyze` in the run folder.
    """

    kind: str | None = None
    images: int = 4
    map_images: int = 0
    top: int = 10
    out: Path | None = None


def analyze(
    config: str, overrides: Sequence[str], save_dir: str, options: AnalyzeOptions
) -> tuple[Any, Path]:
    """Analyse a model and write `analysis.json`, `.csv`, `.png` and `tensors.csv`.

    Args:
        config: a recipe or configuration: says which images.
        overrides: `KEY.SUB=VALUE` texts; `Global.model_dir` names a model outside a run.
        save_dir: the run folder.
        options: see there.

    Returns: the `picoquant.quantization.analysis.analyse.Analysis`, and the folder.

    Raises: `UserError` for a model that is not there or images that are not enough.
    """
    context = Context(load_plan(config, overrides), RunFolder(Path(save_dir)), "cpu")
    folder, kind, float_folder = model_to_analyse(context, options.kind)
    require_tried(folder)
    datasets.check(context, datasets.calibration_section(context))
    feeds = _feeds(context, folder, options.images)
    with quiet():
        from picoquant.quantization.analysis.report import write_picture, write_report
    with tempfile.TemporaryDirectory(prefix="picoquant-analyze-") as scratch, quiet(), dygraph_session():
        analysis = _analyse(context, folder, kind, float_folder, feeds, options, Path(scratch))
    out = options.out or context.run.folder(FOLDER)
    write_report(analysis, out)
    write_picture(analysis, out / PICTURE)
    return analysis, out


def model_to_analyse(context: Context, wanted: str | None) -> tuple[ModelFolder, str, ModelFolder | None]:
    """The folder that is analysed, what it is, and the FP32 model that an INT8 one is compared with.

    Args:
        context: the recipe and the run.
        wanted: see `AnalyzeOptions.kind`.

    Raises: `UserError` for a model that is not there, or is not what was asked for.
    """
    done = context.run.record("quantize").get("status") == "done"
    if context.plan.common.model_dir and (context.plan.names_model or not done):
        folder = fp32_model(context)
        kind = "int8" if program_facts(folder.model).quantised else "fp32"
        if wanted not in (None, kind):
            raise UserError(f"{folder.path} holds an {kind.upper()} model, --of {wanted} was asked for")
        return folder, kind, None
    if wanted == "fp32" or (wanted is None and not done):
        return fp32_model(context), "fp32", None
    return int8_model(context), "int8", fp32_model(context)


def _feeds(context: Context, folder: Any, count: int) -> list[Mapping[str, Any]]:
    """The first calibration images, one in each feed."""
    from picoquant.data.readers.reader import EvalReader

    images = datasets.calibration_images(context)
    datasets.for_model(context, images, folder.config.labels, str(folder.path))
    if len(images) < count:
        raise UserError(
            f"--images {count}, but the Calibration section gives {len(images)} usable images of {images.section}"
        )
    settings = context.plan.eval_reader_of(folder.config)
    names = [name for name, _ in program_facts(folder.model).inputs]
    with EvalReader(datasets.first(images, count), replace(settings, batch_size=1), 0) as reader:
        return [select_inputs(batch, names) for batch in itertools.islice(reader, count)]


def _analyse(
    context: Context,
    folder: Any,
    kind: str,
    float_folder: Any,
    feeds: list[Mapping[str, Any]],
    options: AnalyzeOptions,
    scratch: Path,
) -> Any:
    from picoquant.quantization.analysis.accuracy import with_accuracy
    from picoquant.quantization.analysis.analyse import analyse, steps_of, with_min_max_ranges
    from picoquant.quantization.analysis.network import load_float, load_int8
    from picoquant.quantization.engine.convolution import Convolutions
    from picoquant.training.fast import fast_convolutions_available

    convolutions = Convolutions(fast_convolutions_available())
    LOG.info("analyze: %s (%s), %d images", folder.path, kind, len(feeds))
    quant = context.plan.quant_aware
    if kind == "int8":
        network = load_int8(folder, convolutions, context.plan.common.seed)
    else:
        network = load_float(folder, scratch / "fp32", convolutions, quant)
        network = with_min_max_ranges(network, feeds, quant.symmetric_activations)
    reference = _reference(float_folder, scratch / "reference", network, quant) if float_folder else None
    names = network.model.outputs
    shapes = [network.model.shape(name) for name in names]
    quantities = picodet_quantities(names, shapes, folder.config)
    progress = Progress("analyze: layers alone", steps_of(network, feeds), "layer")
    progress.update(0)
    try:
        analysis = analyse(network, feeds, quantities, reference, progress.update)
    finally:
        progress.close()
    if not options.map_images:
        return analysis
    count = min(options.top, len(network.layers))
    accuracy = _accuracy(context, folder, names, shapes, options.map_images)

    def shown(done: int) -> None:
        LOG.info("analyze: mAP %d of %d measured", done, count + 2)

    return with_accuracy(analysis, network, accuracy, options.map_images, count, shown)


def _reference(folder: Any, scratch: Path, network: Any, quant: Any) -> Callable:
    """The FP32 network of the run: for a feed its tensors, the outputs under the INT8 model's names."""
    from picoquant.quantization.analysis.network import load_float

    exact = load_float(folder, scratch, network.convolutions, quant)
    outputs = exact.model.outputs
    names = list(dict.fromkeys([*exact.tensors.names, *outputs]))
    run = exact.simulation({}, outputs=names)

    def tensors(feed: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(zip(names, run(feed)))
        return {**found, **{own: found[name] for own, name in zip(network.model.outputs, outputs)}}

    return tensors


def _accuracy(
    context: Context, folder: Any, names: Sequence[str], shapes: Sequence[Any], count: int
) -> Callable[[Any], Score]:
    """What evaluates predictors on the first evaluation images; fidelity is that to the first predictor."""
    plan = context.plan
    dataset = datasets.load(context, "EvalDataset")
    if len(dataset) < count:
        raise UserError(f"--map {count}, but {dataset.section} has {len(dataset)} usable images")
    dataset = datasets.for_model(
        context, datasets.first(dataset, count), folder.config.labels, str(folder.path)
    )
    images = evaluation_images(dataset, plan.eval_reader_of(folder.config), plan.workers)
    decoder = Decoder.of(names, shapes, folder.config, plan.nms, str(folder.model))
    expected: dict[str, Any] = {}

    def score(predict: Any) -> Score:
        found = evaluate_model(predict, decoder, images, "analyze")
        if not expected:
            expected.update(detections_as_objects(dataset.ground_truth(), found.detections))
        return Score(found.metrics["mAP"], agreement(expected, found.detections, dataset.image_ids))

    return score
