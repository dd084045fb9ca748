"""What quantisation writes: the INT8 model, its graph with rounding as operators, a description; and their check."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from picoquant.int8.build import Int8Source, build_network, folded
from picoquant.int8.coarse_weights import coarse_weights
from picoquant.int8.completeness import check_int8_model, require_whole
from picoquant.int8.files import save_network
from picoquant.int8.paddle.writer import write_lite_model, write_onnx_model
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.infer_config import (
    FILE_NAME,
    InferConfig,
    find_infer_config,
    write_infer_config,
)
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.quantization.paths import QAT_LOG, QuantizationPaths
from picoquant.quantization.qat_graph import FOLDER as QAT_GRAPH
from picoquant.quantization.qat_graph import write_qat_graph
from picoquant.storage.files import disk_errors, write_json

LOG = logging.getLogger("picoquant")

DESCRIPTION = "quantization.json"
ONNX_FOLDER = "onnx_format"


def write_model(source: Int8Source, out: Path, config: InferConfig) -> None:
    """Write all forms of an INT8 model into a folder.

    Args:
        source: the network, its ranges and weights.
        out: receives `model.pdmodel` and `model.pdiparams`, `int8_network.npz`, `qat_graph/`, `onnx_format/` where the
            settings ask for it, and `quantization.json`.
        config: of the FP32 model's folder.
    """
    LOG.info("quantize: writing the INT8 model to %s", out)
    network = build_network(source)
    for one in coarse_weights(network):
        LOG.warning(
            "quantize: %s: channel %d takes nearly all of the weight's one scale, half of the others have at most %d "
            "of 127 levels: expect a low mAP; channel_wise_abs_max in QuantAware.weight_quantize_type gives each a "
            "scale of its own, for targets that take it",
            one.name,
            one.channel,
            one.levels,
        )
    write_lite_model(network, out)
    save_network(folded(network), ModelFolder.open(out, config=config))
    write_qat_graph(source, out / QAT_GRAPH)
    if source.settings.onnx_format:
        write_onnx_model(network, out / ONNX_FOLDER)
    write_json(out / DESCRIPTION, description(source))


def description(source: Int8Source) -> dict[str, Any]:
    """The content of `quantization.json`: what is in INT8, and all ranges (of 127 steps), readable without Paddle."""
    quant = source.settings
    return {
        "weight_bits": quant.weight_bits,
        "activation_bits": quant.activation_bits,
        "operators": [
            {
                "type": operator.op_type,
                "output": operator.output,
                "activation": operator.activation,
                "activation_range": source.ranges[operator.activation],
                "weight": operator.weight,
                "weight_axis": operator.axis,
            }
            for operator in source.operators
        ],
        "ranges": dict(source.ranges),
        **({"zero_points": dict(source.zero_points)} if source.zero_points else {}),
    }


def complete_folder(
    paths: QuantizationPaths, folder: ModelFolder, config: InferConfig | None, trained: bool
) -> None:
    """Put beside the INT8 model what it is used with: `infer_cfg.yml`, and `qat.csv` where it was trained.

    Args:
        paths: of the quantisation.
        folder: the FP32 model's.
        config: stands in for the FP32 model's `infer_cfg.yml`.
        trained: whether the method is QAT.
    """
    with disk_errors(paths.out):
        for place in (paths.out, paths.out / QAT_GRAPH):
            if not place.is_dir():  # PaddleSlim's AutoCompression writes no such graph
                continue
            if config is None:
                shutil.copyfile(find_infer_config(folder.path, folder.model.name), place / FILE_NAME)
            else:
                write_infer_config(config, place)
        if trained:
            shutil.copyfile(paths.work / QAT_LOG, paths.out / QAT_LOG)


def check_written(out: Path, quant: QuantAwareSettings, whole: bool = True) -> dict[str, Any]:
    """Read the model that was written back, require it to be in INT8 throughout, and note that in `quantization.json`.

    Args:
        out: the folder of the INT8 model.
        quant: section `QuantAware`.
        whole: whether it must be; AutoCompression gives ranges to few tensors, so its models are looked at only.

    Returns: the metric `fully_quantized`: whether no layer stays in float; empty where it was not checked.

    Raises: `PicoquantError` naming the operators that are not in INT8 though they should be.
    """
    if (quant.weight_bits, quant.activation_bits) != (8, 8):
        LOG.info("quantize: the full quantisation check is for 8 bits, so it is left out")
        return {}
    described = json.loads((out / DESCRIPTION).read_text(encoding="utf-8"))
    kept = [
        output
        for part in described.get("mixed_precision", {}).values()
        for layer in part["layers"]
        for output in layer["output"].split(", ")
    ]
    check = check_int8_model(out / MODEL, out / PARAMS, quant.quantize_op_types, kept)
    if whole:
        require_whole(check)
    write_json(out / DESCRIPTION, {**described, "full_check": check.as_dict()})
    if check.holes:
        LOG.warning(
            "quantize: an NPU that runs INT8 only would stop at %d places of this model, first: %s",
            len(check.holes),
            check.holes[0],
        )
        return {"fully_quantized": False}
    LOG.info("quantize: checked %d operators, all have scales", check.operators)
    if check.several_scales:
        names = ", ".join(check.several_scales[0][:3])
        LOG.info(
            "quantize: %d groups of tensors that pass values on have several ranges, first %s: an NPU rounds "
            "once more there",
            len(check.several_scales),
            names,
        )
    return {"fully_quantized": not check.kept_float}
