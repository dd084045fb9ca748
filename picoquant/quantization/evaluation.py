"""Evaluation of models: of INT8 networks in ONNX Runtime, of others in Paddle's runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picoquant.backends.onnx.export import exact_onnx
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.qdq import with_every_tensor
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.errors import ToolError
from picoquant.int8.build import Int8Source, build_network, folded
from picoquant.int8.fake_quant_run import load_source, save_full_integer_simulation
from picoquant.int8.network import Int8Network
from picoquant.int8.paddle.writer import write_lite_model
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.score import Score
from picoquant.utils.device import available_cpus

LOG = logging.getLogger("picoquant")

_FILE = "int8.onnx"
_IN_PADDLE = "quantize: evaluated in Paddle's runtime, which is slower: %s"


@dataclass
class ModelMetric:
    """How well models detect on the evaluation images.

    INT8 networks run in ONNX Runtime, in a form with Paddle's integers (`exact_onnx`), faster than in Paddle. What
    cannot have that form runs in Paddle, and the log says why.

    Attributes:
        evaluate: given `predict(feed) -> [array]`, returns how well it detects.
        open_model: returns what runs a model folder, as `backends.paddle.runtime.open_predictor` does.
        config: stands in for the folder's `infer_cfg.yml`.
    """

    evaluate: Callable[[Any], Score]
    open_model: Callable[[ModelFolder], Any]
    config: InferConfig
    _made: tuple[Int8Source, Int8Network, Any] | None = field(default=None, init=False, repr=False)

    def of_folder(self, folder: Path) -> Score:
        """Of `model.pdmodel` in a folder, in Paddle.

        Raises: `WeightsError` for a folder without a model.
        """
        return self.evaluate(self.open_model(ModelFolder.open(folder, config=self.config)))

    def of_int8(self, source: Int8Source, folder: Path) -> Score:
        """Of an INT8 model.

        Args:
            source: what the model is written from.
            folder: for files that run.
        """
        try:
            predictor = _opened(self._in_onnx(source)[1], folder)
        except ToolError as error:
            LOG.info(_IN_PADDLE, error)
            write_lite_model(build_network(source), folder)
            return self.of_folder(folder)
        return self.evaluate(predictor)

    def of_every_tensor(self, source: Int8Source, folder: Path, int8: float | None) -> float:
        """mAP with every tensor in INT8, as on an NPU that runs INT8 only (simulated).

        Args:
            source: the INT8 model; has a range for every activation.
            folder: for files that run.
            int8: its mAP, where it is known: the same where the model leaves nothing in float.
        """
        value = self._of_every_tensor(source, folder, int8)
        LOG.info("quantize: INT8 mAP %.4f with every tensor in INT8, as an NPU computes (simulated)", value)
        return value

    def _of_every_tensor(self, source: Int8Source, folder: Path, int8: float | None) -> float:
        try:
            network, model = self._in_onnx(source)
            whole = with_every_tensor(model, network)
            if whole is model and int8 is not None:
                return int8
            predictor = _opened(whole, folder)
        except ToolError as error:
            LOG.info(_IN_PADDLE, error)
            save_full_integer_simulation(build_network(source), load_source(source), folder, self.config)
            return self.of_folder(folder).mAP
        return self.evaluate(predictor).mAP

    def _in_onnx(self, source: Int8Source) -> tuple[Int8Network, Any]:
        """The network as ONNX takes it, and its model; those of the last source are kept.

        Raises: `ToolError` where it cannot be one.
        """
        if self._made is not None and self._made[0] is source:
            return self._made[1:]
        network = folded(build_network(source)).for_one_image(self.config.input_size, str(source.folder))
        self._made = source, network, exact_onnx(network)
        return self._made[1:]


def _opened(model: Any, folder: Path) -> OnnxPredictor:
    """An ONNX model in ONNX Runtime.

    Raises: `ToolError` when it does not take it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx(model, folder / _FILE)
    return OnnxPredictor(folder / _FILE, at_once=available_cpus())
