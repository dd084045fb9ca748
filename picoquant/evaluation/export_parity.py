"""Checks that an exported model computes the same outputs as the network that was exported."""

from __future__ import annotations

from typing import Any

import numpy as np

from picoquant.backends.paddle.runtime import decoder_for, dygraph_predictor, open_predictor
from picoquant.detector.modes import evaluation_mode
from picoquant.errors import PicoquantError
from picoquant.evaluation.nms_parity import wrong_decisions
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.postprocess import Detections

# Relative to an output's absmax, or to 1 if that is smaller: scores to 1e-4, boxes to 1e-4 of the input size.
TOLERANCE = 1e-4
# Logits hold the rounding errors of the whole network: those of PicoDet-S-NPU at 416 px differ by 1.3e-4
# between two CPU libraries.
LOGITS_TOLERANCE = 1e-3
# Part of the decisions of NMS that may be wrong beyond what rounding explains.
_WRONG_DECISIONS = 0.02


def verify_export(detector: Any, folder: ModelFolder, images: np.ndarray) -> float:
    """Compare the outputs of an exported model with those of the network.

    Args:
        detector: the network that was exported, a `PicoDet`.
        folder: the model folder that `export_model` wrote.
        images: `[N, 3, H, W]` float32, preprocessed as for evaluation.

    Returns: the largest difference of any output, relative to the absmax of that output (or to 1 if that is
        smaller).

    Raises: `PicoquantError` naming the output that differs, and by how much.
    """
    predictor = open_predictor(folder)
    decoder = decoder_for(predictor, folder.config)
    scale = np.ones((len(images), 2), np.float32)
    outputs = predictor({"image": images, "scale_factor": scale})
    if decoder.kind == "raw":
        return _compare(_raw(detector, images), outputs, predictor.outputs, folder, LOGITS_TOLERANCE)
    boxes, scores = dygraph_predictor(detector)({"image": images})
    if decoder.kind == "boxes":
        return _compare([boxes, scores], outputs, predictor.outputs, folder)
    found = decoder.decode(outputs, scale)
    return max(_compare_detections(*image, folder) for image in zip(boxes, scores, found))


def _raw(detector: Any, images: np.ndarray) -> list[np.ndarray]:
    import paddle

    with evaluation_mode(detector), paddle.no_grad():
        return [level.numpy() for level in detector.logits(paddle.to_tensor(images))]


def _compare(
    expected: list[np.ndarray],
    found: list[np.ndarray],
    outputs: tuple,
    folder: ModelFolder,
    tolerance: float = TOLERANCE,
) -> float:
    worst = 0.0
    for reference, exported, (name, _) in zip(expected, found, outputs):
        if reference.shape != exported.shape:
            raise _differs(folder, f"output {name} has shape {exported.shape}, not {reference.shape}")
        difference = float(np.abs(reference - exported).max() / max(1.0, np.abs(reference).max()))
        if not difference <= tolerance:  # also true for NaN
            raise _differs(folder, f"output {name} differs by {difference:.2e} of its largest value")
        worst = max(worst, difference)
    return worst


def _compare_detections(
    boxes: np.ndarray, scores: np.ndarray, found: Detections, folder: ModelFolder
) -> float:
    """Compare one image: boxes `[L, 4]` and scores `[C, L]` of the network with the export's detections."""
    size = max(1.0, float(np.abs(boxes).max()))
    worst = 0.0
    for row in range(len(found)):
        worst = max(worst, _distance(found, row, scores[found.classes[row]], boxes, size))
    if not worst <= TOLERANCE:
        raise _differs(folder, f"a detection is {worst:.2e} away from any of the network's")
    missing, doubled = wrong_decisions(boxes, scores, found, folder.config.nms, TOLERANCE)
    if missing + doubled > max(1, round(len(found) * _WRONG_DECISIONS)):
        raise _differs(
            folder,
            f"of {len(found)} detections of an image {doubled} overlap a better one that NMS keeps, and {missing} "
            "boxes that NMS keeps are missing",
        )
    return worst


def _distance(found: Detections, row: int, scores: np.ndarray, boxes: np.ndarray, size: float) -> float:
    """Distance from detection `row` to the nearest candidate: `scores` `[K]`, `boxes` `[K, 4]`, K >= 1.

    The distance is the larger of the difference of the scores and that of the box coordinates, divided by
    `size`.
    """
    box = np.abs(boxes - found.boxes[row]).max(axis=1) / size
    return float(np.maximum(np.abs(scores - found.scores[row]), box).min())


def _differs(folder: ModelFolder, what: str) -> PicoquantError:
    return PicoquantError(f"{folder.model} does not compute what the network computes: {what}")
