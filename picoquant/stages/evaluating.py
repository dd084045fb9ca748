"""One way to evaluate a model on a data set."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from picoquant.config.data import reader_settings, with_model_preprocessing, workers
from picoquant.evaluation.evaluate import Evaluation
from picoquant.runtimes.backends import (
    Running,
)
from picoquant.runtimes.model import Model
from picoquant.stages import datasets
from picoquant.stages.stage import Context

LOG = logging.getLogger("picoquant")


def evaluation_images(context: Context, limit: int | None) -> Any:
    """The data set to evaluate on, or its first images."""
    dataset = datasets.load(context, "EvalDataset")
    return replace(dataset, records=dataset.records[:limit]) if limit else dataset


def evaluate_running(
    context: Context, ready: Running, model: Model | None, dataset: Any, name: str, feeds: int = 0
) -> tuple[Evaluation, list[Mapping[str, np.ndarray]]]:
    """Evaluate what is ready to be called, with the model's own preprocessing.

    Args:
        context: the recipe.
        ready: see `ready_on`.
        model: None for the network itself, which has the recipe's preprocessing.
        dataset: to evaluate on; its classes and the model's are matched by name.
        name: for the progress line.
        feeds: how many single images to give back, for timing.

    Raises: `DataError` when model and data set have no class in common.
    """
    from picoquant.data.readers.reader import EvalReader
    from picoquant.evaluation.evaluate import evaluate

    called = model.name if model is not None else "the trained network"
    dataset = datasets.for_model(context, dataset, ready.labels, called)
    settings = reader_settings(context.recipe, "EvalReader")
    if model is not None:
        settings = with_model_preprocessing(settings, model.config)
    with EvalReader(dataset, settings, workers(context.recipe)) as reader:
        found = evaluate(ready.predict, ready.decoder, dataset, reader, title=name)
        single = single_feeds(reader, ready.predict.input_names, feeds) if feeds else []
    LOG.info("%s: mAP %.4f, %.1f images/s", name, found.metrics["mAP"], found.images_per_second)
    return found, single


def single_feeds(reader: Any, names: Sequence[str], count: int) -> list[Mapping[str, np.ndarray]]:
    """The first images as feeds of one image each."""
    from picoquant.paddle_program.network_input import select_inputs

    feeds = []
    size = reader.settings.batch_size
    for batch in itertools.islice(reader, -(-count // size)):
        feed = select_inputs(batch, names)
        feeds += [
            {name: value[i : i + 1] for name, value in feed.items()} for i in range(len(batch["image"]))
        ]
    return feeds[:count]
