"""Does an exported model compute what the network computes?"""

from __future__ import annotations

from typing import Any

import numpy as np

from picoquant.backends.paddle.runtime import decoder_for, dygraph_predictor, open_predictor
from picoquant.detector.modes import evaluation_mode
from picoquant.errors import PicoquantError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.postprocess import Detections, multiclass_nms

# Of an output's largest value, at least of 1: scores to 1e-4, boxes to 1e-4 of the input size.
TOLERANCE = 1e-4
# Logits carry the rounding of the whole network; PicoDet-S-NPU at 416 px is 1.3e-4 off between two CPU libraries.
LOGITS_TOLERANCE = 1e-3
# Rounding may turn the decision between two boxes whose IoU is just the threshold, or two equal
# scores; so some detections may differ, but each must be one of the network's candidates.
_SAME_DECISIONS = 0.98


def verify_export(detector: Any, folder: ModelFolder, images: np.ndarray) -> float:
    """Compare an exported model with the network on images.

    Args:
        detector: the network that was exported, a `PicoDet`.
        folder: what `export_model` wrote.
        images: `[N, 3, H, W]` float32, prepared as for evaluation.

    Returns: the greatest difference found, relative to the largest value of its output.

    Raises: `PicoquantError` saying which output differs and by how much.
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
    for want, have, (name, _) in zip(expected, found, outputs):
        if want.shape != have.shape:
            raise _differs(folder, f"output {name} has shape {have.shape}, not {want.shape}")
        difference = float(np.abs(want - have).max() / max(1.0, np.abs(want).max()))
        if not difference <= tolerance:  # also true for NaN
            raise _differs(folder, f"output {name} differs by {difference:.2e} of its largest value")
        worst = max(worst, difference)
    return worst


def _compare_detections(
    boxes: np.ndarray, scores: np.ndarray, found: Detections, folder: ModelFolder
) -> float:
    """One image: `[L, 4]` and `[C, L]` of the network, and what the export detects."""
    size = max(1.0, float(np.abs(boxes).max()))
    worst = 0.0
    for row in range(len(found)):
        worst = max(worst, _distance(found, row, scores[found.classes[row]], boxes, size))
    if not worst <= TOLERANCE:
        raise _differs(folder, f"a detection is {worst:.2e} away from any of the network's")
    expected = multiclass_nms(boxes, scores, folder.config.nms)
    same = sum(_is_among(found, row, expected, size) for row in range(len(found)))
    most = max(len(found), len(expected))
    if most - same > max(1, round(most * (1 - _SAME_DECISIONS))):
        raise _differs(folder, f"only {same} of {most} detections of an image are the same")
    return worst


def _distance(found: Detections, row: int, scores: np.ndarray, boxes: np.ndarray, size: float) -> float:
    """From one detection to the nearest of `scores` `[K]` with `boxes` `[K, 4]`, K >= 1."""
    box = np.abs(boxes - found.boxes[row]).max(axis=1) / size
    return float(np.maximum(np.abs(scores - found.scores[row]), box).min())


def _is_among(found: Detections, row: int, expected: Detections, size: float) -> bool:
    alike = expected.classes == found.classes[row]
    if not alike.any():
        return False
    return _distance(found, row, expected.scores[alike], expected.boxes[alike], size) <= TOLERANCE


def _differs(folder: ModelFolder, what: str) -> PicoquantError:
    return PicoquantError(f"{folder.model} does not compute what the network computes: {what}")
