"""Non-maximum suppression against hand-worked cases, goldens and Paddle's own operator."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import ConfigError
from picoquant.postprocess import NmsSettings, multiclass_nms
from tests.postprocess.test_decode import MODELS


def rows(detections) -> np.ndarray:
    """`[M, 6]`: class, score, x1, y1, x2, y2."""
    return np.column_stack([detections.classes, detections.scores, detections.boxes])


def nms(boxes, scores, **settings) -> np.ndarray:
    boxes, scores = np.array(boxes, np.float32), np.array(scores, np.float32)
    return rows(multiclass_nms(boxes, scores, NmsSettings(**settings)))


def test_overlap_of_the_same_class_goes_that_of_another_stays():
    # Boxes 0 and 1 share 9 x 10 of 10 x 10 + 10 x 10 - 90 = 110: IoU 0.82 > 0.6.
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]]
    kept = nms(boxes, [[0.5, 0.9, 0.1], [0.5, 0.0, 0.0]])
    np.testing.assert_allclose(
        kept,
        [[0, 0.9, 1, 0, 11, 10], [0, 0.1, 40, 0, 50, 10], [1, 0.5, 0, 0, 10, 10]],
        rtol=1e-6,
    )


def test_an_iou_equal_to_the_threshold_stays():
    # Shared 5 x 10 = 50 of 150: IoU 1/3; a threshold of 0.5 exactly: 10 x 10 against 10 x 5.
    assert len(nms([[0, 0, 10, 10], [0, 0, 10, 5]], [[0.9, 0.8]], nms_threshold=0.5)) == 2


def test_a_suppressed_box_suppresses_nothing():
    # 0 covers 1 (IoU 8/12 = .67), 1 covers 2 (same), 0 and 2 share 6 of 14 = .43: 0 and 2 stay.
    boxes = [[0, 0, 10, 1], [2, 0, 12, 1], [4, 0, 14, 1]]
    assert nms(boxes, [[0.9, 0.8, 0.7]])[:, 2].tolist() == [0, 4]


def test_a_score_equal_to_the_threshold_is_out():
    boxes = [[0, 0, 1, 1], [5, 5, 6, 6]]
    assert len(nms(boxes, [[0.5, 0.75]], score_threshold=0.5)) == 1


def test_keep_top_k_counts_over_classes_and_top_k_within_each():
    boxes = [[10 * i, 0, 10 * i + 5, 5] for i in range(4)]
    scores = [[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.85]]
    assert nms(boxes, scores, keep_top_k=3)[:, 0].tolist() == [0, 0, 1]
    assert nms(boxes, scores, nms_top_k=1)[:, 1].tolist() == pytest.approx([0.9, 0.85])
    assert len(nms(boxes, scores, nms_top_k=-1, keep_top_k=-1)) == 8


def test_more_than_one_block_of_candidates():
    # 500 boxes side by side, each twice: 500 stay, the limit then takes the best 100 of them.
    left = np.repeat(np.arange(500) * 10, 2)
    boxes = np.stack([left, left * 0, left + 8, left * 0 + 8], axis=1)
    scores = np.linspace(0.9, 0.1, 1000)[None]
    assert len(nms(boxes, scores, keep_top_k=-1)) == 500
    assert nms(boxes, scores)[:, 2].tolist() == (np.arange(100) * 10).tolist()


def test_nothing_above_the_threshold():
    kept = multiclass_nms(np.ones((5, 4), np.float32), np.zeros((3, 5), np.float32), NmsSettings())
    assert len(kept) == 0 and kept.boxes.shape == (0, 4) and kept.boxes.dtype == np.float32


@pytest.mark.parametrize("name", MODELS)
def test_equals_paddledetection(shared, name):
    golden = np.load(shared / "alignment" / f"{name}.npz")
    end = 0
    for image, count in enumerate(golden["nms_bbox_num"]):
        scale_y, scale_x = golden["scale_factor"][image]
        scale = np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
        kept = multiclass_nms(golden["boxes"][image] / scale, golden["scores"][image], NmsSettings())
        expected = golden["nms_bbox"][end : end + count]
        end += count
        assert {tuple(row) for row in rows(kept)} == {tuple(row) for row in expected}


@pytest.mark.parametrize("seed", range(6))
def test_equals_paddles_operator_with_ties_and_empty_boxes(seed):
    import paddle
    from paddle import _legacy_C_ops

    random = np.random.RandomState(seed)
    corner = random.randint(0, 24, (300, 2))
    # Whole numbers: many equal scores, equal boxes and boxes without area.
    boxes = np.concatenate([corner, corner + random.randint(0, 9, (300, 2))], 1).astype(np.float32)
    scores = (random.randint(0, 12, (4, 300)) / 12).astype(np.float32)
    settings = NmsSettings(0.1, 0.3 + 0.1 * seed, (40, 1000)[seed % 2], (-1, 100, 30)[seed % 3])
    attributes = (
        "background_label", -1, "score_threshold", settings.score_threshold,
        "nms_top_k", settings.nms_top_k, "nms_threshold", settings.nms_threshold,
        "keep_top_k", settings.keep_top_k, "nms_eta", 1.0, "normalized", True,
    )  # fmt: skip
    expected, _, _ = _legacy_C_ops.multiclass_nms3(
        paddle.to_tensor(boxes[None]), paddle.to_tensor(scores[None]), None, *attributes
    )
    np.testing.assert_array_equal(
        rows(multiclass_nms(boxes, scores, settings)).astype(np.float32), expected.numpy()
    )


@pytest.mark.parametrize("key, value", [("score_threshold", 1.5), ("nms_threshold", "x"), ("keep_top_k", 0)])
def test_settings_name_what_is_wrong(key, value):
    with pytest.raises(ConfigError, match=f"nms.{key} is"):
        NmsSettings(**{key: value})
