"""Evaluation of a model that is ready on a runtime."""

from __future__ import annotations

import logging
from typing import Any

from picoquant.evaluation.evaluate import Evaluation, evaluate_sliced
from picoquant.runtimes.backends import Running
from picoquant.runtimes.model import Model
from picoquant.runtimes.sliced import Slicing
from picoquant.stages import datasets
from picoquant.stages.evaluating import EvaluationImages, evaluate_model, evaluation_images
from picoquant.stages.stage import Context

LOG = logging.getLogger("picoquant")


def evaluate_running(
    context: Context,
    ready: Running,
    model: Model | None,
    dataset: Any,
    name: str,
    slicing: Slicing | None = None,
) -> tuple[Evaluation, EvaluationImages]:
    """Evaluate what is ready to be called, with the model's own preprocessing.

    Args:
        context: the recipe.
        ready: see `ready_on`.
        model: None for the network itself, which has the recipe's preprocessing.
        dataset: to evaluate on; its classes and the model's are matched by name.
        name: for the progress line.
        slicing: how images are taken apart; None: they are not.

    Returns: the numbers, and the images they are of.

    Raises: `DataError` when model and data set have no class in common.
    """
    plan, called = context.plan, model.name if model is not None else "the trained network"
    dataset = datasets.for_model(context, dataset, ready.labels, called)
    settings = plan.eval_reader if model is None else plan.eval_reader_of(model.config)
    images = evaluation_images(dataset, settings, plan.workers, plan.voc)
    if slicing is None:
        found = evaluate_model(ready.predict, ready.decoder, images, name)
    else:
        prepared = plan.infer_config(ready.labels) if model is None else model.config
        found = evaluate_sliced(ready.predict, ready.decoder, dataset, prepared, slicing, name, plan.voc)
    mean = found.metrics["mAP"]
    what = (
        f"mAP {mean:.4f}" if mean >= 0 else f"{len(found.detections)} detections"
    )  # -1: nothing is annotated
    LOG.info("%s: %s, %.1f images/s", name, what, found.images_per_second)
    return found, images
