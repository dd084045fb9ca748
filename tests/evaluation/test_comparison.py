"""INT8 models beside each other: which finds again more of what FP32 detects."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from picoquant.evaluation.comparison import Row, int8_models_compared
from picoquant.evaluation.evaluate import Evaluation

IMAGES = range(1, 13)


def detections(shift, images=IMAGES, score=0.9):
    """One box of 20 x 20 pixels an image, moved to the right."""
    return [
        {"image_id": number, "category_id": 1, "bbox": [10.0 + shift, 10.0, 20.0, 20.0], "score": score}
        for number in images
    ]


def row(name, backend, precision, found):
    evaluation = Evaluation({"mAP": 0.5}, {}, found, len(IMAGES), 1.0)
    return Row(name, backend, precision, name, evaluation, None, None, 0)


@pytest.fixture
def dataset():
    frame = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "height": 64, "width": 64} for number in IMAGES
        ],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [],
    }
    return SimpleNamespace(ground_truth=lambda: frame, image_ids=list(IMAGES))


def test_each_further_int8_model_is_compared_with_the_first_in_its_runtime(dataset):
    """Boxes moved by 2 of 20 pixels: IoU 18 / 22 = 0.818, right at 7 of COCO's 10 thresholds (0.50 to 0.80)."""
    rows = [
        row("paddle_fp32", "paddle", "fp32", detections(0)),
        row("onnx_int8", "onnx", "int8", detections(2)),
        row("onnx_int8_better", "onnx", "int8", detections(0)),
        row("paddle_int8", "paddle", "int8", detections(2)),
    ]
    ((name, (beside, pair)),) = int8_models_compared(rows, dataset).items()
    assert (name, beside) == ("onnx_int8_better", "onnx_int8")
    assert pair.difference == pytest.approx(1.0 - 0.7) and pair.told_apart
    assert pair.low == pytest.approx(pair.high)  # every image is off by as much


def test_without_anything_to_find_again_there_is_none(dataset):
    models = [row(f"onnx_int8_{number}", "onnx", "int8", detections(number)) for number in range(2)]
    assert int8_models_compared(models, dataset) == {}
    weak = row("paddle_fp32", "paddle", "fp32", detections(0, score=0.2))
    assert int8_models_compared([weak, *models], dataset) == {}
