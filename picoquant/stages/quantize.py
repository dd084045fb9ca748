"""Stage `quantize`: FP32 export -> INT8 by AutoCompression's QAT with distillation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable

from picoquant.backends.paddle.smoke_test import require_tried
from picoquant.backends.paddle_lite.toolchain import find_opt
from picoquant.config.recipe import DEFAULT_RECIPE
from picoquant.config.target_rules import say_origin
from picoquant.errors import ToolError
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.npu.check import check_model
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import select_inputs
from picoquant.paddle_program.program import program_facts
from picoquant.postprocess.decoder import Decoder
from picoquant.quantization.quantize import QuantizationSections, quantize
from picoquant.quantization.settings import DistillationSettings, QatTrainSettings, QuantizationSettings
from picoquant.stages import datasets
from picoquant.stages.board_accuracy import (
    METRIC,
    board_accuracy,
    holds_postprocessing,
    warn_of_postprocessing,
)
from picoquant.stages.evaluating import evaluation_images
from picoquant.stages.plan import Plan, load_plan
from picoquant.stages.run_models import fp32_model
from picoquant.stages.scoring import Scoring
from picoquant.stages.stage import Context, Stage
from picoquant.storage.files import sha256
from picoquant.utils.device import rank_and_world, use_device
from picoquant.weight_files.quantised import RANGES_FILE

LOG = logging.getLogger("picoquant")


def _inputs(context: Context) -> dict[str, Any]:
    folder = fp32_model(context, compare=False)
    sections, ranges = context.plan.quantization, folder.path / RANGES_FILE
    images, held_out = datasets.identities(context, datasets.calibration_section(context), "EvalDataset")
    return {
        **({"ranges of the weights": sha256(ranges)} if ranges.is_file() else {}),
        "model": sha256(folder.model),
        "params": sha256(folder.params),
        "preprocessing": folder.config.identity(),
        "distillation": asdict(sections.distillation),
        "quant_aware": asdict(sections.quant_aware),
        "training": asdict(sections.train),
        "own": asdict(sections.own),
        "calibration": datasets.calibration_identity(context),
        "images": images,
        "evaluated on": held_out,
        "seed": context.plan.common.seed,
    }


def _work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    return _quantize(context, out, keep)


def _help(context: Context) -> None:
    with TemporaryDirectory(prefix="picoquant-") as folder:
        _quantize(context, Path(folder), Path(folder))


def _quantize(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    """This process's part of the quantisation; the metrics in the first process."""
    from picoquant.data.readers.reader import EvalReader, endless_sizes

    use_device(context.device)
    plan, folder = context.plan, fp32_model(context)
    calibration, sections = plan.calibration, plan.quantization
    learnt = sections.own.learns_ranges
    say_origin(plan.quant_aware_section, plan.targets, plan.recipe.targets, learnt)
    warn_of_unused(plan)
    reader = plan.eval_reader_of(folder.config)
    driving = replace(reader, batch_size=calibration.batch_size or reader.batch_size)
    images, held_out = datasets.calibration_images(context), datasets.load(context, "EvalDataset")
    datasets.warn_of_overlap(images, held_out)
    held_out = datasets.for_model(context, held_out, folder.config.labels, str(folder.path))
    facts = program_facts(folder.model)
    require_tried(folder)
    warn_of_postprocessing(context, folder)
    shard = rank_and_world()
    batch_size, steps_per_epoch = endless_sizes(images, driving.batch_size, shard[1])
    if sections.own.method == "qat" and not sections.own.by_levels:
        tell_where_the_rate_ends(sections.train, steps_per_epoch)
    # No image is measured twice; as many as the user counted, or some of all.
    round_of_images = endless_sizes(images, driving.batch_size, 1)[1]
    measured = round_of_images if calibration.count or calibration.files else min(8, round_of_images)
    names = [name for name, _ in facts.inputs]
    decoder = Decoder.of(*zip(*facts.outputs), folder.config, plan.nms, str(folder.model))
    target = evaluation_images(held_out, reader, plan.workers)
    trained = sections.own.method == "qat"  # states are compared, and by mAP alone chance would choose
    scoring = Scoring(decoder, names, target, folder if trained else None, context.device)

    with EvalReader(images, driving, plan.workers) as source:
        drawn = partial(source.endless, calibration.seed, shuffle=calibration.shuffle)

        def batches(start: int, part: tuple[int, int] = shard) -> Any:
            return (select_inputs(batch, names) for batch in drawn(start, part))

        def measured_on(turns: tuple[int, int] = (0, 1)) -> Any:
            """The same images however many processes there are."""
            return (select_inputs(batch, names) for batch in drawn(turns=turns))

        result = quantize(
            folder.path,
            out,
            keep,
            batches,
            QuantizationSections(
                sections.distillation,
                sections.quant_aware,
                sections.train,
                sections.own,
                calibration_batches=measured,
                steps_per_epoch=steps_per_epoch,
                batch_size=batch_size,
            ),
            evaluate=scoring if plan.common.Evaluation else None,
            seed=plan.common.seed,
            model_filename=folder.model.name,
            params_filename=folder.params.name,
            config=folder.config,
            calibration=measured_on,
            calibration_share=lambda rank, world: measured_on((rank, world)),
            pieces=npu_pieces(context),
            image_names=source.endless_names(calibration.seed, measured, calibration.shuffle),
        )
    if not result.metrics:
        return {}
    int8 = ModelFolder.open(out, config=folder.config)
    boards = board_accuracy(context, int8, result.metrics, plan.targets)
    measured = boards and holds_postprocessing(context, int8)  # else it is that of every tensor in INT8
    return {**result.metrics, **({METRIC: boards} if measured else {})}


def tell_where_the_rate_ends(train: QatTrainSettings, steps_per_epoch: int) -> None:
    """Warn where training is much shorter or longer than the cosine of its rate: `train_iter` alone shortens it not.

    Args:
        train: section `TrainConfig`.
        steps_per_epoch: batches in a pass over the images.
    """
    rate, steps = train.learning_rate, train.steps(steps_per_epoch)
    ends = rate.get("T_max") if isinstance(rate, Mapping) and rate["type"] == "CosineAnnealingDecay" else None
    if isinstance(ends, (int, float)) and not 0.9 * steps <= ends < 2 * steps:
        LOG.warning(
            "quantize: training has %d steps, and TrainConfig.learning_rate.T_max is %g: the rate %s; set both",
            steps,
            ends,
            "hardly falls" if ends > steps else "rises again behind it",
        )


def warn_of_unused(plan: Plan) -> None:
    """Say which settings, neither the shipped recipe's nor left out, this way to quantise does not use.

    Of a calibration alone keys of training that no command names are passed over: recipes have them.
    """
    sections, shipped = plan.quantization, load_plan(DEFAULT_RECIPE).quantization
    own, default = sections.own, QuantizationSettings()
    if own.engine != "picoquant":
        return  # says it itself
    told: dict[str, list[str]] = {}
    if own.by_levels:
        told["Quantize.training is levels; set it to configured to train by these keys"] = [
            f"{section}.{key}"
            for section, ours, theirs, keys in (
                (
                    "Distillation",
                    (shipped.distillation, DistillationSettings()),
                    sections.distillation,
                    ("alpha", "loss", "node"),
                ),
                (
                    "TrainConfig",
                    (shipped.train, QatTrainSettings(train_iter=1)),
                    sections.train,
                    ("learning_rate", "optimizer_builder"),
                ),
                (
                    "QuantAware",
                    (shipped.quant_aware, QuantAwareSettings()),
                    sections.quant_aware,
                    ("use_pact",),
                ),
            )
            for key in keys
            if getattr(theirs, key) not in [getattr(one, key) for one in ours]
        ]
    if own.method == "ptq":
        told["Quantize.method is ptq, which does not train; set it to qat"] = sorted(
            key
            for key in plan.recipe.named
            if key.startswith(("TrainConfig", "Distillation", "QuantAware.use_pact"))
        )
    for why, keys in _unused_keys(own).items():
        told[why] = [
            *told.get(why, ()),
            *(
                f"Quantize.{key}"
                for key in keys
                if getattr(own, key) not in (getattr(default, key), getattr(shipped.own, key))
            ),
        ]
    if not plan.common.Evaluation:
        told["Global.Evaluation is false; set it to true to measure its mAP"] = [
            key for key in _OF_EVALUATIONS if key in plan.recipe.named
        ]
    for why, unused in told.items():
        if unused:
            LOG.warning("quantize: %s of the recipe is not used: %s", ", ".join(unused), why)


_OF_EVALUATIONS = (
    "Quantize.patience", "Quantize.guard_collapse", "TrainConfig.eval_iter", "TrainConfig.target_metric",
    "TrainConfig.origin_metric",
)  # fmt: skip
_OF_TRAINING = (
    "patience", "reference_batch", "training", "level_rate", "learned_ranges", "lsq_rate", "freeze_last", "guard_rise",
    "guard_collapse", "guard_rate_factor", "guard_tries",
)  # fmt: skip


def _unused_keys(own: QuantizationSettings) -> dict[str, tuple[str, ...]]:
    """Why keys of section `Quantize` say nothing beside others of it -> these."""
    found: dict[str, tuple[str, ...]] = {}
    if own.method == "ptq":
        found["Quantize.method is ptq, which does not train; set it to qat"] = _OF_TRAINING
    elif own.by_levels:
        found["Quantize.training is levels; set it to configured to train by these keys"] = (
            "lsq_rate", "reference_batch",
        )  # fmt: skip
    else:
        found["Quantize.training is configured; set it to levels for it"] = ("level_rate",)
        if own.learned_ranges != "lsq":
            found["Quantize.learned_ranges is none; set it to lsq for it"] = ("lsq_rate",)
    if own.ranges != "percentile":
        found[f"Quantize.ranges is {own.ranges}; set it to percentile for it"] = ("percentile",)
    if not own.cross_layer_equalisation:
        found["Quantize.cross_layer_equalisation is false; set it to true for it"] = ("channel_copies",)
    return found


def npu_pieces(context: Context) -> Callable[[Any], dict[str, int]]:
    """What counts an INT8 model's pieces on each NPU of the recipe; without opt it counts nothing."""
    targets = [target for target in context.plan.targets if target.on_npu]

    def count(folder: Any) -> dict[str, int]:
        if not targets:
            return {}
        try:
            opt = find_opt(context.opt)
        except ToolError as error:
            LOG.info("quantize: NPU pieces are not counted: %s", error)
            return {}
        return {target.name: check_model(folder, target, opt).pieces_with_partition for target in targets}

    return count


STAGE = Stage(
    "quantize",
    "FP32 export -> INT8, QAT with distillation",
    lambda context: None,
    _inputs,
    _work,
    data=("TrainDataset", "EvalDataset"),
    help=_help,
)
