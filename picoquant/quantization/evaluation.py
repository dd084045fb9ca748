"""mAP of models on disk, and of the simulation in which every tensor is INT8."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle

from picoquant.int8.build import Int8Source, build_network
from picoquant.int8.fake_quant_run import load_source, save_full_integer_simulation
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class ModelMetric:
    """mAP of a model folder on the evaluation images.

    Attributes:
        evaluate: given `predict(feed) -> [array]`, returns the mAP, 0 to 1.
        open_model: returns what runs a model folder, as `backends.paddle.runtime.open_predictor` does.
        config: stands in for the folder's `infer_cfg.yml`.
    """

    evaluate: Callable[[Any], float]
    open_model: Callable[[ModelFolder], Any]
    config: InferConfig

    def __call__(self, folder: Path) -> float:
        """mAP, 0 to 1, of `model.pdmodel` in a folder.

        Raises: `WeightsError` for a folder without a model.
        """
        return float(self.evaluate(self.open_model(ModelFolder.open(folder, config=self.config))))


def full_integer_metric(metric: ModelMetric, source: Int8Source, executor: Any, folder: Path) -> float:
    """mAP with every tensor in INT8, as on an NPU that runs INT8 only (simulated).

    Args:
        metric: how it is measured.
        source: the INT8 model; has a range for every activation.
        executor: of Paddle.
        folder: created for the simulation's files.
    """
    with paddle.static.scope_guard(paddle.static.Scope()):
        model = load_source(source, executor)
        save_full_integer_simulation(build_network(source), model, executor, folder, metric.config)
    value = metric(folder)
    LOG.info("quantize: INT8 mAP %.4f with every tensor in INT8, as an NPU computes (simulated)", value)
    return value
