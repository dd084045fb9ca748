"""What quantisation writes: the INT8 model, its graph with rounding as operators, and a description."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from picoquant.int8.build import Int8Source, build_network, folded
from picoquant.int8.files import save_network
from picoquant.int8.paddle_writer import write_lite_model, write_onnx_model
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.qat.qat_graph import FOLDER as QAT_GRAPH
from picoquant.quantization.qat.qat_graph import write_qat_graph
from picoquant.storage.files import write_json

LOG = logging.getLogger("picoquant")

DESCRIPTION = "quantization.json"
ONNX_FOLDER = "onnx_format"


def write_model(source: Int8Source, executor: Any, out: Path, config: InferConfig) -> None:
    """Write all forms of an INT8 model into a folder.

    Args:
        source: what it is made from.
        executor: of Paddle.
        out: gets the Paddle model, `int8_network.npz`, `qat_graph/`, `onnx_format/` where the settings ask for it, and
            `quantization.json`.
        config: of the model.
    """
    LOG.info("quantize: writing the INT8 model to %s", out)
    network = build_network(source)
    write_lite_model(network, out)
    save_network(folded(network), ModelFolder.open(out, config=config))
    write_qat_graph(source, executor, out / QAT_GRAPH)
    if source.settings.onnx_format:
        write_onnx_model(network, out / ONNX_FOLDER)
    write_json(out / DESCRIPTION, description(source))


def description(source: Int8Source) -> dict[str, Any]:
    """What is in INT8 and all ranges, for a reader without Paddle."""
    quant = source.settings
    return {
        "weight_bits": quant.weight_bits,
        "activation_bits": quant.activation_bits,
        "operators": [
            {
                "type": operator.kind,
                "output": operator.output,
                "activation": operator.activation,
                "activation_range": source.ranges[operator.activation],
                "weight": operator.weight,
                "weight_axis": operator.axis,
            }
            for operator in source.operators
        ],
        "ranges": dict(source.ranges),
    }
