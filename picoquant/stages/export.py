"""Stage `export`: trained weights -> Paddle inference model with infer_cfg.yml."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from picoquant.config.data import export_size, preprocessing
from picoquant.config.detector import parse_detector
from picoquant.stages import datasets
from picoquant.stages.model import load_trained, say_classes, trained_classes, trained_weights
from picoquant.stages.stage import Context, Stage
from picoquant.storage.files import sha256

LOG = logging.getLogger("picoquant")

CHECKED_IMAGES = 2  # real images on which export and network are compared


def kind(recipe: Any) -> str:
    """`raw`, `boxes` or `detections`, from the keys of section `export`."""
    section = recipe.document["export"]
    if not section.get("post_process") or section.get("benchmark"):
        return "raw"
    return "detections" if section.get("nms") else "boxes"


def _not_needed(context: Context) -> str | None:
    model_dir = context.recipe.common.model_dir
    return f"Global.model_dir names an exported model ({model_dir})" if model_dir else None


def _inputs(context: Context) -> dict[str, Any]:
    detector = parse_detector(context.recipe.document)
    return {
        "weights": sha256(trained_weights(context)),
        "kind": kind(context.recipe),
        "detector": asdict(detector),
        "preprocessing": preprocessing(context.recipe),
        "labels": trained_classes(context, datasets.load(context, "EvalDataset")),
    }


def _work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    from itertools import islice

    import numpy as np
    import paddle

    from picoquant.config.data import reader_settings
    from picoquant.data.readers.reader import EvalReader
    from picoquant.evaluation.export_parity import verify_export
    from picoquant.export.paddle_export import export_model
    from picoquant.paddle_program.infer_config import InferConfig
    from picoquant.utils.device import use_device

    use_device(context.device)
    recipe = context.recipe
    weights, dataset = trained_weights(context), datasets.load(context, "EvalDataset")
    labels = trained_classes(context, dataset)
    datasets.for_model(context, dataset, labels, str(weights))
    classes = say_classes(recipe, labels, str(dataset.annotation_file))
    with paddle.utils.unique_name.guard():  # the same names, so the same files, whatever ran before it
        model = load_trained(recipe, classes, weights)
    form, (size, said) = kind(recipe), export_size(recipe)
    if said:
        LOG.info("export: %s", said)
    config = InferConfig(
        labels=labels,
        strides=tuple(model.strides),
        nms=parse_detector(recipe.document).head.nms,
        arch="GFL" if form == "detections" else "PicoDet",
        **preprocessing(recipe),
    )
    folder = export_model(model, out, form, config.input_size, config)
    with EvalReader(dataset, reader_settings(recipe, "EvalReader"), 0, size if said else None) as reader:
        images = np.concatenate([batch["image"] for batch in islice(reader, 1)])[:CHECKED_IMAGES]
    difference = verify_export(model, folder, images)
    return {"kind": form, "classes": classes, "max_relative_difference": difference}


STAGE = Stage(
    "export",
    "trained network -> Paddle inference model",
    _not_needed,
    _inputs,
    _work,
    data=("EvalDataset",),
)
