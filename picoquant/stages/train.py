"""Stage `train`: images -> FP32 weights."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from picoquant.config.data import input_size, reader_settings, workers
from picoquant.config.detector import parse_detector
from picoquant.config.training import published_rate, scalar_folder, train_settings
from picoquant.stages import datasets
from picoquant.stages.model import load_start, say_classes, start_weights
from picoquant.stages.stage import Context, Stage
from picoquant.training.settings import check_precision
from picoquant.utils.device import rank_and_world
from picoquant.utils.ranks import call_helpers

LOG = logging.getLogger("picoquant")


def _not_needed(context: Context) -> str | None:
    common = context.recipe.common
    if common.weights:
        return f"Global.weights names trained weights ({common.weights})"
    if common.model_dir:
        return f"Global.model_dir names an exported model ({common.model_dir})"
    return None


def _inputs(context: Context) -> dict[str, Any]:
    recipe = context.recipe
    settings = train_settings(recipe)
    check_precision(settings.amp, context.device)
    reader = reader_settings(recipe, "TrainReader")
    return {
        "detector": asdict(parse_detector(recipe.document)),
        "schedule": asdict(settings),
        "reader": repr(reader),
        "evaluation": repr(reader_settings(recipe, "EvalReader")),
        "pretrain_weights": recipe.document.get("pretrain_weights"),
        "images": datasets.identity(context, "TrainDataset"),
        "evaluated on": datasets.identity(context, "EvalDataset"),
    }


def _work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    call_helpers(context.device, True)
    return _train(context, keep).write(out)


def _help(context: Context) -> None:
    _train(context, context.run.root)


def _train(context: Context, keep: Path) -> Any:
    """This process's part of the training; its `TrainResult`."""
    import paddle

    from picoquant import build_detector
    from picoquant.backends.paddle.child_process import ChildPredictor
    from picoquant.backends.paddle.compiled import compiled_predictor
    from picoquant.data.readers.reader import EvalReader, TrainReader
    from picoquant.evaluation.evaluate import evaluate
    from picoquant.postprocess.decoder import Decoder
    from picoquant.training.linear_rule import hint_at_reference
    from picoquant.training.loop import train
    from picoquant.training.scalar_log import FOLDER
    from picoquant.utils.device import use_device

    use_device(context.device)
    recipe = context.recipe
    scalars = scalar_folder(recipe, keep / FOLDER)
    images, held_out = datasets.load(context, "TrainDataset"), datasets.load(context, "EvalDataset")
    datasets.same_classes(images, held_out)
    classes = say_classes(recipe, images.class_names, str(images.annotation_file))
    weights = start_weights(recipe)
    seed = recipe.common.seed
    paddle.seed(seed)
    model = build_detector(recipe.document, classes)
    if weights:
        load_start(model, weights)
    decoder = Decoder("boxes", parse_detector(recipe.document).head.nms)
    with (
        TrainReader(
            images,
            reader_settings(recipe, "TrainReader"),
            seed,
            workers(recipe),
            shard=rank_and_world(),
        ) as reader,
        EvalReader(held_out, reader_settings(recipe, "EvalReader"), workers(recipe)) as target,
        ChildPredictor(parse_detector(recipe.document, classes), input_size(recipe)) as child,
    ):

        def score(network: Any, epoch: int) -> dict[str, float]:
            title = f"evaluate epoch {epoch + 1}"
            if context.device == "cpu":
                child.load(network)
                predict = child
            else:
                predict = compiled_predictor(network, input_size(recipe), context.device)
            return evaluate(predict, decoder, held_out, target, title=title).metrics

        settings = train_settings(recipe)
        if settings.reference_batch is None:
            images_a_step = reader.batch_size * rank_and_world()[1]
            hint_at_reference(
                images_a_step * settings.accumulate_steps,
                settings.learning_rate.base_lr,
                published_rate(recipe),
            )
        return train(model, reader, settings, keep, score, scalars)


STAGE = Stage(
    "train",
    "images -> FP32 weights",
    _not_needed,
    _inputs,
    _work,
    data=("TrainDataset", "EvalDataset"),
    help=_help,
)
