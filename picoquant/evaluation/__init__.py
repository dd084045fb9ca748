"""Evaluation of a model on a data set: detections and COCO metrics. Importing this does not import paddle."""

from __future__ import annotations

from picoquant.backends.paddle.compiled import compiled_predictor
from picoquant.backends.paddle.runtime import decoder_for, dygraph_predictor, open_predictor
from picoquant.evaluation.coco_metrics import METRICS, coco_metrics, coco_results
from picoquant.evaluation.evaluate import Evaluation, evaluate

__all__ = [
    "METRICS",
    "Evaluation",
    "coco_metrics",
    "coco_results",
    "compiled_predictor",
    "decoder_for",
    "dygraph_predictor",
    "evaluate",
    "open_predictor",
]
