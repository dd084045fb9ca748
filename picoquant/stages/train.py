"""Stage `train`: images -> FP32 weights."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from picoquant.backends.paddle.child_process import ChildPredictor
from picoquant.backends.paddle.compiled import compiled_predictor
from picoquant.data.class_names import same_classes
from picoquant.data.dataset import Dataset
from picoquant.data.input_size import largest_input, sizes_text, training_sizes
from picoquant.data.preparation import tell_other_shapes
from picoquant.detector.settings.heads import PicoHeadV2
from picoquant.postprocess.decoder import Decoder
from picoquant.pruning.in_training import Pruned
from picoquant.stages import datasets
from picoquant.stages.evaluating import evaluate_model, evaluation_images
from picoquant.stages.model import (
    load_start,
    say_classes,
    start_digest,
    start_weights,
    taught,
    teacher_inputs,
    teacher_weights,
)
from picoquant.stages.plan import Plan
from picoquant.stages.stage import Context, Stage
from picoquant.training.schedule import hint_at_reference, tell_where_it_ends
from picoquant.training.settings import CHECKPOINTS, TrainSettings, check_precision
from picoquant.utils.device import rank_and_world, use_device

if TYPE_CHECKING:
    from picoquant.data.readers.reader import TrainReader

LOG = logging.getLogger("picoquant")


def _not_needed(context: Context) -> str | None:
    common = context.plan.common
    if common.weights:
        return f"Global.weights names trained weights ({common.weights})"
    if common.model_dir:
        return f"Global.model_dir names an exported model ({common.model_dir})"
    return None


def _inputs(context: Context) -> dict[str, Any]:
    plan = context.plan
    check_precision(plan.training.amp, context.device)
    images, held_out = datasets.identities(context, "TrainDataset", "EvalDataset")
    return {
        "detector": asdict(plan.detector),
        "schedule": _schedule(plan.training),
        "reader": repr(plan.train_reader),
        "evaluation": repr(plan.eval_reader),
        "pretrain_weights": plan.pretrain_weights,
        "images": images,
        "evaluated on": held_out,
        **({"metric": "VOC"} if plan.voc else {}),
        **plan.train_reader.by_epoch,
        **_pruning(plan),
        **_start(plan),
        **teacher_inputs(plan),
        **_order_of_classes(context),
    }


def _schedule(settings: TrainSettings) -> dict[str, Any]:
    """How it is trained, without what came later and is not used: a run of before is not made again for it."""
    found, plain = asdict(settings), asdict(TrainSettings(epochs=1))
    for key in ("early_stop", "save_best"):
        if found[key] == plain[key]:
            del found[key]
    if not settings.optimizer.has_moments:
        for key in ("beta1", "beta2", "epsilon"):
            del found["optimizer"][key]
    return found


def _pruning(plan: Plan) -> dict[str, Any]:
    """How it is pruned, where it is."""
    sections = {"UnstructuredPruner": plan.unstructured_pruner, "Pruner": plan.pruner}
    return {name: asdict(settings) for name, settings in sections.items() if settings is not None}


def _start(plan: Plan) -> dict[str, Any]:
    """What the file of `pretrain_weights` holds, where it is a file; its name alone says not enough."""
    digest = start_digest(plan)
    return {} if digest is None else {"sha256 of pretrain_weights": digest}


def _order_of_classes(context: Context) -> dict[str, Any]:
    """The classes, where their order is not that of their ids: classes were once numbered by these."""
    settings = datasets.settings_of(context, "TrainDataset")
    if settings.format != "coco" or not settings.annotation_file.is_file():
        return {}
    found = datasets.categories_of(context, settings.annotation_file)
    numbers = [number for number, _ in found if isinstance(number, (int, float))]
    in_order = len(numbers) == len(found) and numbers == sorted(numbers)
    return {} if in_order else {"classes": [name for _, name in found]}


def _work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    pruned = Pruned(context.plan.pruner, context.plan.unstructured_pruner)
    metrics = _train(context, keep, pruned).write(out)
    metrics |= pruned.write(out)
    return {**metrics, "classes": list(datasets.load(context, "TrainDataset").class_names)}


def _help(context: Context) -> None:
    _train(context, context.run.root, Pruned(context.plan.pruner, context.plan.unstructured_pruner))


def _train(context: Context, keep: Path, pruned: Pruned) -> Any:
    """This process's part of the training; its `TrainResult`."""
    from picoquant.data.readers.reader import TrainReader

    plan = context.plan
    images, held_out = datasets.load(context, "TrainDataset"), datasets.load(context, "EvalDataset")
    same_classes(images, held_out)
    tell_other_shapes(plan.train_reader, plan.eval_reader)
    shard = rank_and_world()
    if (idle := plan.train_reader.idle) and shard[0] == 0:  # the others have the same settings
        LOG.warning(
            "TrainReader: %s: works in no epoch, for of Mixup, Cutmix and Mosaic the first works that is on, until its "
            "epoch (0: always, -1: never)",
            ", ".join(idle),
        )
    if sizes := training_sizes(plan.train_reader):
        shown = f"{plan.input_size[0]}x{plan.input_size[1]}"
        LOG.info(
            "train: images of %s (TrainReader), evaluated at %s (height x width)", sizes_text(sizes), shown
        )
    with TrainReader(images, plan.train_reader, plan.common.seed, plan.workers, shard=shard) as reader:
        if not (keep / CHECKPOINTS).exists():
            reader.begin()  # makes the first batches while Paddle is imported and the network built
        return _train_with(context, keep, pruned, reader, held_out)


def _train_with(context: Context, keep: Path, pruned: Pruned, reader: TrainReader, held_out: Dataset) -> Any:
    import paddle

    from picoquant.detector.build import build_picodet
    from picoquant.detector.step_memory import warn_of_memory
    from picoquant.training.loop import train

    use_device(context.device)
    plan, images = context.plan, reader.dataset
    scalars = plan.scalars(keep)
    classes = say_classes(plan, images.class_names, str(images.annotation_file))
    weights = start_weights(plan)
    teacher_weights(plan)  # what is missing is said before a network is built
    paddle.seed(plan.common.seed)
    detector = plan.detector_for(classes)
    model = build_picodet(detector)
    smaller = bool(weights) and load_start(model, weights)
    pruned.remove_filters(model, detector, plan.input_size, weights, smaller)
    network, model = model, taught(plan, model, images.class_names, context.device)
    decoder = Decoder("boxes", plan.nms)
    target = evaluation_images(held_out, plan.eval_reader, plan.workers, plan.voc, shared=True)
    with ChildPredictor(detector, plan.input_size) as child:

        def score(network: Any, epoch: int) -> dict[str, float]:
            title = f"evaluate epoch {epoch + 1}"
            if context.device == "cpu":
                child.load(network)
                predict = child
            else:
                predict = compiled_predictor(network, plan.input_size, context.device)
            return evaluate_model(predict, decoder, target, title).metrics

        settings = plan.training
        updates = -(-reader.steps_per_epoch // settings.accumulate_steps)
        masks = pruned.masks(network, settings.epochs, updates, weights)
        rank, world = rank_and_world()
        if rank == 0:
            tell_where_it_ends(
                settings.learning_rate, settings.epochs, reader.steps_per_epoch, _from_an_epoch_on(plan)
            )
        if settings.reference_batch is None:
            hint_at_reference(
                reader.batch_size * world * settings.accumulate_steps,
                settings.learning_rate.base_lr,
                plan.published_rate,
            )
        if context.device == "cpu":
            size = largest_input(plan.train_reader, plan.input_size)
            warn_of_memory(model, size, reader.batch_size, settings.amp)
        return train(model, reader, settings, keep, score, scalars, masks)


def _from_an_epoch_on(plan: Plan) -> dict[str, int]:
    """Key -> epoch from which on training does otherwise."""
    found = {
        key: getattr(plan.train_reader, key)
        for key in ("mosaic_epoch", "mixup_epoch", "cutmix_epoch")
        if plan.train_reader.working(0) == key.removesuffix("_epoch").capitalize()
    }
    found = {f"TrainReader.{key}": epoch for key, epoch in found.items()}
    head = plan.detector.head
    if isinstance(head, PicoHeadV2):  # the older head has one assigner
        found["static_assigner_epoch"] = head.static_assigner_epoch
    return found


STAGE = Stage(
    "train",
    "images -> FP32 weights",
    _not_needed,
    _inputs,
    _work,
    data=("TrainDataset", "EvalDataset"),
    help=_help,
)
