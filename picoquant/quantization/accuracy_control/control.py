"""Leaves layers of a written INT8 model in float as the settings ask, and records why."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from picoquant.errors import ConfigError
from picoquant.int8.build import Int8Source
from picoquant.quantization.accuracy_control.evaluator import CandidateEvaluator
from picoquant.quantization.accuracy_control.ignored import cost_of_ignored_layers
from picoquant.quantization.accuracy_control.ranker import RankedGroup, rank
from picoquant.quantization.accuracy_control.search import Goal, reach_goal
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.save import DESCRIPTION, write_model
from picoquant.quantization.settings import NO_EVALUATION
from picoquant.storage.files import write_json

LOG = logging.getLogger("picoquant")

_RANKING_IMAGES = 4  # on which layers are ranked


def keep_float_model(context: QuantizationContext) -> None:
    """Copy the FP32 files where `max_drop` needs their mAP at the end: those of the student are replaced.

    Raises: `ConfigError` for `max_drop` without an evaluation.
    """
    if context.settings.quantization.max_drop is None:
        return
    if context.metric is None:
        raise ConfigError(NO_EVALUATION)
    shutil.copytree(context.paths.student, context.paths.fp32)


def control_accuracy(
    context: QuantizationContext,
    source: Int8Source,
    int8: float | None,
    float_params: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], Int8Source]:
    """Leave layers in float as `keep_float` and `max_drop` ask; the model is written again where any do.

    Args:
        context: of the quantisation; its output folder holds the INT8 model and `quantization.json`.
        source: what that model was written from.
        int8: its mAP, 0 to 1; None: not measured yet.
        float_params: weights and biases before they were changed for INT8, by name.

    Returns: metrics to add, and what the model in the output folder was written from.
    """
    settings, paths = context.settings.quantization, context.paths
    evaluator = CandidateEvaluator(paths.candidate, context.metric, context.count_pieces)
    noted: dict[str, Any] = {}
    if settings.keep_float:
        noted["keep_float"] = cost_of_ignored_layers(source, evaluator, context.settings.quant).as_dict()
    if settings.max_drop is not None:
        int8 = context.metric.of_int8(source, paths.candidate).mAP if int8 is None else int8
        LOG.info("quantize: evaluating the FP32 model, which Quantize.max_drop is counted from")
        goal = Goal(settings.max_drop, context.metric.of_folder(paths.fp32).mAP, int8)
        mixed, chosen = reach_goal(source, goal, evaluator, partial(_ranked, context), float_params)
        noted["max_drop"] = mixed.as_dict()
        if mixed.layers:
            source = chosen
            write_model(source, paths.out, context.config)
            int8 = next(trial.mAP for trial in mixed.trials if trial.layers == len(mixed.layers))
    if not noted:
        return {}, source
    path = paths.out / DESCRIPTION
    described = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**described, "mixed_precision": noted})
    metrics = {"mixed_precision": noted, "quantized_operators": len(source.operators)}
    return {**metrics, **({} if int8 is None else {"mAP": int8})}, source


def _ranked(context: QuantizationContext, source: Int8Source) -> list[RankedGroup]:
    return rank(source, context.convolutions, _ranking_feeds(context), context.config)


def _ranking_feeds(context: QuantizationContext) -> list[dict[str, np.ndarray]]:
    """The first calibration batches, as many as hold the images that layers are ranked on."""
    feeds, images = [], 0
    for feed in context.images:
        feeds.append(feed)
        images += len(next(iter(feed.values())))
        if images >= _RANKING_IMAGES:
            break
    return feeds
