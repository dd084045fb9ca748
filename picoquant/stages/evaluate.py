"""Stage `evaluate`: COCO numbers of the FP32 and the INT8 model on the same images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from picoquant.backends.paddle.runtime import decoder_for, open_predictor
from picoquant.backends.paddle.smoke_test import require_tried
from picoquant.evaluation.fidelity import agreement, detections_as_objects
from picoquant.evaluation.voc_metrics import VOC_METRICS
from picoquant.stages import datasets
from picoquant.stages.board_accuracy import METRIC
from picoquant.stages.evaluating import evaluate_model, evaluation_images, open_quickly, trained_network
from picoquant.stages.model import trained_weights
from picoquant.stages.plan import Plan, load_plan
from picoquant.stages.run_models import fp32_model, int8_model
from picoquant.stages.stage import Context, Stage
from picoquant.storage.csv_log import CsvLog
from picoquant.storage.files import sha256
from picoquant.storage.run_folder import RunFolder
from picoquant.utils import ranks
from picoquant.utils.device import check_device

LOG = logging.getLogger("picoquant")

_MAIN = ("mAP", "AP50", "AP75")


def _models(context: Context, compare: bool = True) -> dict[str, Any]:
    """`fp32`, and `int8` where the run has one; the INT8 model alone will do too."""
    models = {"fp32": fp32_model(context, compare)}
    if context.run.record("quantize").get("status") == "done":
        models["int8"] = int8_model(context, compare)
    else:
        LOG.info("evaluate: no INT8 model in this run yet, so FP32 only")
    return models


def _not_needed(context: Context) -> str | None:
    return None if context.plan.common.Evaluation else "Global.Evaluation is false"


def _inputs(context: Context) -> dict[str, Any]:
    models = {
        name: {
            "model": sha256(folder.model),
            "params": sha256(folder.params),
            "preprocessing": folder.config.identity(),
        }
        for name, folder in _models(context, compare=False).items()
    }
    return {
        "models": models,
        "nms": asdict(context.plan.nms),
        "images": datasets.identity(context, "EvalDataset"),
        **({"metric": "VOC"} if context.plan.voc else {}),
    }


def _work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    dataset = datasets.load(context, "EvalDataset")
    metrics, detections = {}, {}
    for name, folder in _models(context).items():
        result = evaluate_folder(context, folder, dataset, f"evaluate {name}", quick=True)
        result.write_detections(out / f"detections_{name}.json", dataset)
        metrics[name], detections[name] = result.metrics, result.detections
        LOG.info("%s: %s", name, _main(result.metrics))
    if "int8" in metrics:
        expected = detections_as_objects(dataset.ground_truth(), detections["fp32"])
        found = agreement(expected, detections["int8"], dataset.image_ids)
        said = ""
        if found is not None:
            metrics["int8"]["fidelity"] = found
            said = f"; fidelity {found:.4f} (INT8 against what FP32 detects)"
        LOG.info("INT8 - FP32: mAP %+.4f%s", metrics["int8"]["mAP"] - metrics["fp32"]["mAP"], said)
        boards = context.run.record("quantize").get("metrics", {}).get(METRIC) or {}
        for target, value in boards.items():
            LOG.info("int8 on %s, whose NPU computes everything in INT8 (simulated): mAP %.4f", target, value)
    fields = ["model", *metrics["fp32"], "fidelity"]
    rows = CsvLog(out / "metrics.csv", fields)
    for name, values in metrics.items():
        rows.write(model=name, **values)
    return metrics


def _help(context: Context) -> None:
    """Evaluate this process's part of the images, of each model as `_work` does."""
    dataset = datasets.load(context, "EvalDataset")
    for name, folder in _models(context).items():
        evaluate_folder(context, folder, dataset, f"evaluate {name}", quick=True)


def _main(metrics: dict[str, float]) -> str:
    return "  ".join(f"{key} {metrics[key]:.4f}" for key in (*_MAIN, *VOC_METRICS) if key in metrics)


def evaluate_folder(context: Context, folder: Any, dataset: Any, title: str, quick: bool = False) -> Any:
    """One exported model over a data set, through the Paddle inference runtime.

    Args:
        context: the recipe.
        folder: the model's.
        dataset: loaded to be evaluated on; its classes are matched with the model's by name.
        title: of the progress line.
        quick: in ONNX Runtime where that takes it, see `open_quickly`.
    """
    plan = context.plan
    dataset = datasets.for_model(context, dataset, folder.config.labels, str(folder.path))
    require_tried(folder)
    opened = (
        open_quickly(folder, context.device) if quick else nullcontext(open_predictor(folder, context.device))
    )
    with opened as predictor:
        decoder = decoder_for(predictor, folder.config, plan.nms)
        reader = plan.eval_reader_of(folder.config)
        images = evaluation_images(dataset, reader, plan.workers, plan.voc, shared=True)
        return evaluate_model(predictor, decoder, images, title)


def evaluated_alone(plan: Plan, save_dir: str) -> bool:
    """Whether weights or a model are evaluated themselves, in place of a run's models.

    So are those that the command names, and a recipe's weights where no run has exported a model.

    Args:
        plan: the recipe's.
        save_dir: the run folder.
    """
    if plan.names_model or plan.names_weights:
        return True
    named = plan.common.weights or plan.common.weights_elsewhere
    return bool(named) and not (Path(save_dir).expanduser() / "export").is_dir()


def evaluate_alone(
    config: str | Plan, overrides: Sequence[str], device: str, save_dir: str
) -> dict[str, Any]:
    """Evaluate weights (`Global.weights`) or an exported model (`Global.model_dir`) outside a run.

    Args:
        config: a recipe or configuration, or its plan; it says which data set.
        overrides: `KEY.SUB=VALUE` texts; of a plan they are applied already.
        device: `cpu`, `gpu` or `gpu:0,1`.
        save_dir: the run folder that holds a generated data set; not touched by other recipes.

    Returns: backend name -> metrics, 0 to 1; for weights the dygraph network, for a model folder the
        Paddle inference runtime.
    """
    check_device(device)
    plan = config if isinstance(config, Plan) else load_plan(config, overrides)
    context = Context(plan, RunFolder(Path(save_dir)) if plan.synthetic else None, device)
    with ranks.together(device):
        ranks.compare(partial(_alone, context))
        return _evaluate_alone(context)


def _alone(context: Context) -> dict[str, Any]:
    """What the numbers of `evaluate_alone` depend on."""
    plan = context.plan
    if plan.common.model_dir:
        folder = fp32_model(context)
        found = {"model": sha256(folder.model), "params": sha256(folder.params)}
        found["preprocessing"] = folder.config.identity()
    else:
        found = {"weights": sha256(trained_weights(context)), "detector": asdict(plan.detector)}
        found["reader"] = repr(plan.eval_reader)
    return {**found, "nms": asdict(plan.nms), "images": datasets.identity(context, "EvalDataset")}


def _evaluate_alone(context: Context) -> dict[str, Any]:
    plan = context.plan
    dataset = datasets.load(context, "EvalDataset")
    if plan.common.model_dir:
        name = "paddle_inference"
        result = evaluate_folder(context, fp32_model(context), dataset, "evaluate")
    else:
        name = "paddle_dygraph"
        result = _evaluate_weights(context, dataset)
    LOG.info("%s: %s", name, _main(result.metrics))
    return {name: result.metrics}


def _evaluate_weights(context: Context, dataset: Any) -> Any:
    """Trained weights over a data set, through the dygraph network."""
    plan, network = context.plan, trained_network(context, dataset)
    dataset = datasets.for_model(context, dataset, network.labels, str(trained_weights(context)))
    images = evaluation_images(dataset, plan.eval_reader, plan.workers, plan.voc, shared=True)
    return evaluate_model(network.predict, network.decoder, images)


STAGE = Stage(
    "evaluate",
    "COCO mAP of FP32 and INT8 on the same images",
    _not_needed,
    _inputs,
    _work,
    data=("EvalDataset",),
    help=_help,
)
