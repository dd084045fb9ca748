"""Whether two models of one network agree: run both on one image and compare what comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import ToolError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image, select_inputs

# Rounding of one level in 127 that falls the other way in an early layer grows on the way through the
# network: two correct implementations (Paddle's own two INT8 forms) were 22 to 34 dB apart on PicoDet-S-NPU,
# this ONNX and Paddle 17 to 30 dB, before scales were tie-free (`int8/passes/tie_avoidance.py`), which PaddleSlim's
# are not. Networks that are not the same are near 0 dB.
_GROSS_DB = 3.0


def run_onnx(path: Path, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run a model in ONNX Runtime, one thread.

    Raises: `ToolError` when ONNX Runtime does not take it.
    """
    return OnnxPredictor(path, threads=1)(feed)


def compare(folder: ModelFolder, onnx_model: Path, kind: str, image: np.ndarray) -> dict[str, Any]:
    """Run the Paddle and the ONNX form of a model on one picture.

    Args:
        folder: the Paddle model.
        onnx_model: the ONNX file.
        kind: of its outputs, as `Decoder.kind`.
        image: `[height, width, 3]` uint8 RGB.

    Returns: `max_abs_difference` and `signal_to_noise_db` (None: equal) of each output.

    Raises: `ToolError` when they differ so grossly that they cannot be the same network.
    """
    predict = open_predictor(folder, threads=1)
    feed = select_inputs(feed_of_image(image, folder.config), predict.input_names)
    pairs = list(zip(predict(feed), run_onnx(onnx_model, feed)))
    if kind == "detections":  # rows may change places
        pairs = [tuple(_sorted_scores(output) for output in pairs[0])]
    differences, decibels = [], []
    for paddle, onnx in pairs:
        if paddle.shape != onnx.shape:
            raise ToolError(f"{onnx_model.name} gives {onnx.shape} where Paddle gives {paddle.shape}")
        differences.append(float(f"{np.abs(paddle - onnx).max(initial=0):.3g}"))
        decibels.append(_signal_to_noise(paddle.astype(np.float64), onnx))
    # One small output of a level without objects may be all rounding; a wrong network is wrong in most.
    typical = median(math.inf if value is None else value for value in decibels)
    if typical < _GROSS_DB:
        raise ToolError(
            f"{onnx_model.name} is not the network of {folder.model}: signal to noise {typical} dB on a sample "
            f"image (median of the outputs), at least {_GROSS_DB} expected"
        )
    return {"max_abs_difference": differences, "signal_to_noise_db": decibels}


def _signal_to_noise(signal: np.ndarray, other: np.ndarray) -> float | None:
    """Energy of `signal` over that of the difference, dB; None where there is no difference."""
    noise = float(((signal - other) ** 2).sum())
    if noise == 0:
        return None
    if not math.isfinite(noise):
        return -math.inf
    return round(10 * math.log10(max(float((signal**2).sum()), 1e-30) / noise), 1)


def _sorted_scores(rows: np.ndarray, count: int = 100) -> np.ndarray:
    """The best scores of rows `[M, 6]`, as many as asked for, 0 where there are fewer."""
    scores = np.zeros(count)
    best = np.sort(rows[:, 1])[::-1][:count]
    scores[: len(best)] = best
    return scores
