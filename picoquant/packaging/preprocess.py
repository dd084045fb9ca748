"""`preprocess.yml`: how an image becomes the network's input, and its outputs detections, for any language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from picoquant.paddle_program.infer_config import InferConfig, normalisation, padding_values
from picoquant.postprocess import Decoder
from picoquant.postprocess.decode import CELL_OFFSET

# OpenCV's numbers of the interpolations.
_INTERPOLATIONS = {0: "nearest", 1: "linear", 2: "cubic", 3: "area", 4: "lanczos4"}
_MEANINGS = {
    "raw": "all levels' scores [1, cells, classes] 0-1; then their distance logits "
    "[1, cells, 4 * (reg_max + 1)]",
    "logits": "all levels' class logits [1, cells, classes]; then, where there are three outputs a level, "
    "their alignment logits [1, cells, 1]; then their distance logits [1, cells, 4 * (reg_max + 1)]. "
    "score = sqrt(sigmoid(class) * sigmoid(alignment) + 1e-9); without alignment sigmoid(class)",
    "boxes": "boxes [1, points, 4] x1 y1 x2 y2 in input pixels; scores [1, classes, points]",
    "detections": "rows [M, 6] class score x1 y1 x2 y2 in image pixels; number of rows [1]",
}


def description(
    config: InferConfig,
    inputs: Sequence[tuple[str, Sequence[int]]],
    outputs: Sequence[tuple[str, Sequence[int]]],
) -> dict[str, Any]:
    """The content of `preprocess.yml`.

    Args:
        config: of the model.
        inputs, outputs: names and shapes, in order.

    Raises: `WeightsError` when the outputs are not a PicoDet's.
    """
    decoder = Decoder.of(*zip(*outputs), config)
    height, width = config.input_size
    logits = decoder.kind == "raw" and decoder.raw_outputs == "logits"
    return {
        "input": {
            "tensors": [{"name": name, "shape": list(shape)} for name, shape in inputs],
            "layout": "NCHW",
            "color": "RGB",
            "type": "float32",
        },
        "resize": {
            "height": height,
            "width": width,
            "keep_ratio": config.keep_ratio,
            "interpolation": _INTERPOLATIONS.get(config.interp, str(config.interp)),
            "opencv_interpolation": config.interp,
            "pad_to_multiple_of": config.pad_stride,
            **({"letterbox": _letterbox(config)} if config.keep_ratio else {}),
        },
        "normalize": {**normalisation(config), "formula": "(pixel - mean) / std, for each of R, G, B"},
        "output": {
            "tensors": [{"name": name, "shape": list(shape)} for name, shape in outputs],
            "kind": decoder.kind,
            "raw_outputs": decoder.raw_outputs if decoder.kind == "raw" else None,
            "meaning": _MEANINGS["logits" if logits else decoder.kind],
        },
        "decode": {
            "strides": list(config.strides),
            "cell_offset": CELL_OFFSET,
            "reg_max": outputs[-1][1][-1] // 4 - 1 if decoder.kind == "raw" else None,
            "score_threshold": config.nms.score_threshold,
            "nms_threshold": config.nms.nms_threshold,
            "nms_top_k": config.nms.nms_top_k,
            "keep_top_k": config.nms.keep_top_k,
        },
    }


def _letterbox(config: InferConfig) -> dict[str, Any]:
    """How an image is fitted into the network's input, and its boxes found again."""
    before = {"end": "0", "centre": "half of what is left over, rounded down", "start": "what is left over"}
    return {
        "scale": "min(height / image height, width / image width); the image is resized to its sides times this, "
        "rounded half up, at least 1",
        "padding": config.padding,
        "padding_above_and_left": before[config.padding],
        "value_after_normalization": list(padding_values(config)),
        "box_in_image": "(box in input - padding left or above) / (resized side / image side)",
    }
