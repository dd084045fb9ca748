"""Precision at a recall, by hand, and the same AP as pycocotools' summary."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.evaluation.coco_metrics import coco_metrics
from picoquant.evaluation.precision_recall import precision_recall

BOX = [10.0, 10.0, 20.0, 20.0]


def ground_truth(annotations):
    """Three classes (ids 2, 5, 9), the last without an object, and four images."""
    return {
        "images": [{"id": number, "width": 100, "height": 100} for number in range(1, 5)],
        "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 9, "name": "none"}],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "iscrowd": 0,
                "area": 400.0,
            }
            for number, (image, category, box) in enumerate(annotations, 1)
        ],
    }


def result(image, category, box, score):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


TRUTH = ground_truth([(1, 2, BOX), (2, 2, BOX), (3, 2, BOX), (4, 2, BOX), (1, 5, BOX)])
# cats in the order of their scores: hit, miss, hit, hit; one of four is not found
FOUND = [
    result(1, 2, BOX, 0.9),
    result(2, 2, [60.0, 60.0, 20.0, 20.0], 0.8),
    result(2, 2, BOX, 0.7),
    result(3, 2, [10.0, 10.0, 20.0, 16.0], 0.6),  # IoU 0.8
]


def test_precision_at_a_recall_by_hand():
    found = precision_recall(TRUTH, FOUND, [1, 2, 3, 4])
    assert found.classes == ("cat", "dog", "none") and found.objects == (4, 1, 0)
    cat = found.curve(0.5, 0)
    assert cat[25] == pytest.approx(1)  # recall 0.25 after the first detection
    assert cat[26] == cat[50] == cat[75] == pytest.approx(3 / 4)  # the best at that recall or higher: 3 of 4
    assert cat[76] == cat[100] == 0
    strict = found.curve(0.9, 0)  # the last one no longer counts
    assert strict[50] == pytest.approx(2 / 3) and strict[51] == 0
    assert found.ap(0.5)[0] == pytest.approx((26 * 1 + 50 * 0.75) / 101)
    assert np.isnan(found.ap()[2]) and np.isnan(found.curve(0.5, 2)).all()
    assert found.curve(0.5)[50] == pytest.approx(
        0.75 / 2
    )  # dogs have none; the class without objects is left out


def test_ap_is_that_of_the_summary():
    found = precision_recall(TRUTH, FOUND, [1, 2, 3, 4])
    metrics, per_class = coco_metrics(TRUTH, FOUND)
    assert np.nanmean(found.ap()) == pytest.approx(metrics["mAP"])
    assert np.nanmean(found.ap(0.5)) == pytest.approx(metrics["AP50"])
    assert found.ap()[0] == pytest.approx(per_class["cat"])


def test_nothing_found_and_nothing_annotated():
    assert (precision_recall(TRUTH, [], [1, 2]).curve(0.5) == 0).all()
    nothing = precision_recall(ground_truth([]), FOUND, [1, 2])
    assert np.isnan(nothing.curve(0.5)).all() and nothing.objects == (0, 0, 0)
