"""Stage `export`: trained weights -> Paddle inference model with infer_cfg.yml."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from picoquant.evaluation.export_parity import verify_export
from picoquant.stages import datasets
from picoquant.stages.model import load_trained, say_classes, trained_classes, trained_weights
from picoquant.stages.stage import Context, Stage
from picoquant.storage.files import sha256, write_json
from picoquant.utils.device import use_device
from picoquant.weight_files.quantised import RANGES_FILE

LOG = logging.getLogger("picoquant")

CHECKED_IMAGES = 2  # real images on which export and network are compared


def _not_needed(context: Context) -> str | None:
    model_dir = context.plan.common.model_dir
    return f"Global.model_dir names an exported model ({model_dir})" if model_dir else None


def _inputs(context: Context) -> dict[str, Any]:
    plan = context.plan
    return {
        "weights": sha256(trained_weights(context)),
        "kind": plan.export_kind,
        "detector": asdict(plan.detector),
        "preprocessing": plan.preprocessing,
        "labels": trained_classes(context, datasets.load(context, "EvalDataset")),
    }


def _work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    from itertools import islice

    import numpy as np
    import paddle

    from picoquant.data.readers.reader import EvalReader
    from picoquant.detector.weights import input_ranges_of
    from picoquant.export.paddle_export import export_model

    use_device(context.device)
    plan = context.plan
    weights, dataset = trained_weights(context), datasets.load(context, "EvalDataset")
    labels = trained_classes(context, dataset)
    datasets.for_model(context, dataset, labels, str(weights))
    classes = say_classes(plan, labels, str(dataset.annotation_file))
    size, said = plan.export_size
    if said:
        LOG.info("export: %s", said)
    with paddle.utils.unique_name.guard():  # the same names, so the same files, whatever ran before it
        model = load_trained(plan, classes, weights)
    form = plan.export_kind
    config = plan.infer_config(labels, "GFL" if form == "detections" else "PicoDet")
    folder = export_model(model, out, form, config.input_size, config)
    ranges = input_ranges_of(model, weights)
    if ranges:
        write_json(out / RANGES_FILE, ranges)
    with EvalReader(dataset, plan.eval_reader, 0, size if said else None) as reader:
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
