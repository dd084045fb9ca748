"""Box decoding against hand-worked numbers and PaddleDetection's golden outputs."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.postprocess import anchor_points, decode_boxes, decode_levels

MODELS = (
    "esnet_s",
    "lcnet_s",
    "lcnet_xs",
    "legacy_lcnet_1_0x",
    "mobilenetv3",
    "npu_s",
    "shufflenetv2_1x",
)
STRIDES = (8, 16, 32, 64)


def test_anchor_points_are_cell_centres_row_by_row():
    # 20 x 33 pixels: stride 16 gives ceil(20/16) = 2 rows and ceil(33/16) = 3 columns.
    points, strides = anchor_points((20, 33), (16, 32))
    assert points[:6].tolist() == [
        [0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5], [1.5, 1.5], [2.5, 1.5],
    ]  # fmt: skip
    assert points[6:].tolist() == [[0.5, 0.5], [1.5, 0.5]]
    assert strides.ravel().tolist() == [16] * 6 + [32] * 2


def test_decode_boxes_by_hand():
    # Bins 0 and 1. Logits 0, ln 3 give the weights 1/4, 3/4: a distance of 0.75.
    # Equal logits give 0.5; 0, -1000 gives 0; -1000, 0 gives 1.
    logits = np.array([[[0, np.log(3), 5, 5, 0, -1000, -1000, 0]]], np.float32)
    points, strides = np.array([[1.5, 2.5]], np.float32), np.array([[8]], np.float32)
    # x1 = (1.5 - .75) * 8, y1 = (2.5 - .5) * 8, x2 = (1.5 + 0) * 8, y2 = (2.5 + 1) * 8.
    np.testing.assert_allclose(decode_boxes(logits, points, strides), [[[6, 16, 12, 28]]])


@pytest.mark.parametrize("name", MODELS)
def test_equals_paddledetection(shared, name):
    golden = np.load(shared / "alignment" / f"{name}.npz")
    scores, boxes = decode_levels(
        [golden[f"raw_cls{level}"] for level in range(4)],
        [golden[f"raw_reg{level}"] for level in range(4)],
        (192, 192),
        STRIDES,
    )
    assert scores.dtype == boxes.dtype == np.float32
    np.testing.assert_allclose(scores, golden["scores"][:1], atol=1e-6)
    np.testing.assert_allclose(boxes, golden["boxes"][:1], atol=1e-4)  # of 192 pixels
