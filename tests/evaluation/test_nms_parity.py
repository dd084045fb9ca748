"""What suppression may keep where rounding decides, and what it may not."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.evaluation.nms_parity import wrong_decisions
from picoquant.postprocess import Detections, multiclass_nms
from picoquant.postprocess.settings import NmsSettings

NMS = NmsSettings(score_threshold=0.025, nms_threshold=0.6, nms_top_k=1000, keep_top_k=100)
TOLERANCE = 1e-4


def network(seed, classes=3, points=1500, spread=1.0):
    """Boxes in clusters, their scores equal but for `spread`."""
    random = np.random.default_rng(seed)
    centre = random.uniform(20, 300, (40, 2))[random.integers(0, 40, points)] + random.normal(
        0, 4, (points, 2)
    )
    half = random.uniform(10, 16, (points, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
    scores = (0.3 + spread * random.uniform(0, 0.5, (classes, points))).astype(np.float32)
    return boxes, scores


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-5, 0.0])
@pytest.mark.parametrize("keep", [20, 100, -1])
def test_another_rounding_is_no_other_decision(spread, keep):
    boxes, scores = network(0, spread=spread)
    random = np.random.default_rng(1)
    nms = NmsSettings(score_threshold=0.025, nms_threshold=0.6, nms_top_k=1000, keep_top_k=keep)
    rounded = boxes + random.uniform(-1e-3, 1e-3, boxes.shape).astype(np.float32)
    other = scores + random.uniform(-4e-5, 4e-5, scores.shape).astype(np.float32)
    found = multiclass_nms(rounded, other, nms)
    assert wrong_decisions(boxes, scores, found, nms, TOLERANCE) == (0, 0)


def test_lists_with_little_in_common_are_both_right():
    boxes, scores = network(2, spread=1e-5)
    order = np.arange(len(boxes))[::-1]  # ties are decided the other way round
    first, second = multiclass_nms(boxes, scores, NMS), multiclass_nms(boxes[order], scores[:, order], NMS)
    same = {tuple(box) for box in first.boxes} & {tuple(box) for box in second.boxes}
    shuffled = scores + np.random.default_rng(0).uniform(-4e-5, 4e-5, scores.shape).astype(np.float32)
    third = multiclass_nms(boxes, shuffled, NMS)
    common = {tuple(box) for box in first.boxes} & {tuple(box) for box in third.boxes}
    assert len(common) < 0.7 * len(first) and len(same) > 0
    for found in (first, second, third):
        assert wrong_decisions(boxes, scores, found, NMS, TOLERANCE) == (0, 0)


def of(found, rows):
    return Detections(found.classes[rows], found.scores[rows], found.boxes[rows])


def test_what_is_not_suppressed_at_all_is_seen():
    boxes, scores = network(3)
    best = np.argsort(-scores[0])[:100]
    found = Detections(np.zeros(100, np.int64), scores[0, best], boxes[best])
    assert wrong_decisions(boxes, scores, found, NMS, TOLERANCE)[1] > 20


def test_detections_that_are_lost_are_seen():
    nms = NmsSettings(score_threshold=0.025, nms_threshold=0.6, nms_top_k=1000, keep_top_k=-1)
    boxes, scores = network(4)
    found = multiclass_nms(boxes, scores, nms)
    best = np.sort(np.argsort(-found.scores)[10:])  # without the ten best
    missing, doubled = wrong_decisions(boxes, scores, of(found, best), nms, TOLERANCE)
    assert missing >= 10 and doubled == 0
    assert wrong_decisions(boxes, scores, found, nms, TOLERANCE) == (0, 0)


def test_another_threshold_is_seen():
    boxes, scores = network(5)
    for other in (0.3, 0.9):
        wrong = NmsSettings(score_threshold=0.025, nms_threshold=other, nms_top_k=1000, keep_top_k=-1)
        right = NmsSettings(score_threshold=0.025, nms_threshold=0.6, nms_top_k=1000, keep_top_k=-1)
        found = multiclass_nms(boxes, scores, wrong)
        assert sum(wrong_decisions(boxes, scores, found, right, TOLERANCE)) > 20


def test_too_many_and_too_low_are_seen():
    boxes, scores = network(6)
    found = multiclass_nms(boxes, scores, NmsSettings(0.025, 0.6, 1000, -1))
    assert (
        wrong_decisions(boxes, scores, found, NmsSettings(0.025, 0.6, 1000, 20), TOLERANCE)[1]
        == len(found) - 20
    )
    assert wrong_decisions(boxes, scores, found, NmsSettings(0.99, 0.6, 1000, -1), TOLERANCE) == (
        0,
        len(found),
    )


def test_nothing_found_of_nothing():
    none = Detections(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 4), np.float32))
    boxes, scores = network(7)
    assert wrong_decisions(boxes, scores * 0, none, NMS, TOLERANCE) == (0, 0)
    assert wrong_decisions(boxes, scores, none, NMS, TOLERANCE)[0] > 1000
