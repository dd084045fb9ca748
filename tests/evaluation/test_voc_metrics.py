"""VOC's mAP, worked out by hand as PaddleDetection counts it."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.evaluation.voc_metrics import eleven_points, integral, voc_metrics


def truth(*objects):
    keys = ("image_id", "category_id", "bbox", "iscrowd")
    return {"annotations": [dict(zip(keys, entry)) for entry in objects]}


def found(*detections):
    return [dict(zip(("image_id", "category_id", "bbox", "score"), entry)) for entry in detections]


BOX, FAR, OTHER = [0, 0, 9, 9], [50, 50, 9, 9], [100, 0, 9, 9]  # 10 pixels a side, as VOC counts


def test_two_of_three_objects():
    """Right, wrong, right: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.

    11 points: 1 at 0, 0.1, 0.2, 0.3; 2/3 at 0.4, 0.5, 0.6; 0 at the four others: (4 + 2) / 11.
    Area: 1 * 1/3 + 2/3 * 1/3 = 5/9.
    """
    objects = truth((1, 1, BOX, 0), (1, 1, FAR, 0), (2, 1, BOX, 0))
    detections = found((1, 1, BOX, 0.9), (1, 1, OTHER, 0.8), (2, 1, BOX, 0.7))
    metrics = voc_metrics(objects, detections, [1, 2])
    assert metrics == {"VOC_11point": pytest.approx(6 / 11), "VOC_integral": pytest.approx(5 / 9)}


def test_an_object_is_found_once():
    metrics = voc_metrics(truth((1, 1, BOX, 0)), found((1, 1, BOX, 0.5), (1, 1, BOX, 0.6)), [1])
    assert metrics["VOC_integral"] == 1  # the better one; the other is wrong behind it
    metrics = voc_metrics(
        truth((1, 1, BOX, 0), (2, 1, BOX, 0)), found((1, 1, BOX, 0.9), (1, 1, BOX, 0.8)), [1, 2]
    )
    assert metrics["VOC_integral"] == 0.5


def test_difficult_objects_are_neither_missed_nor_wrong():
    objects = truth((1, 1, BOX, 1), (1, 1, FAR, 0))
    assert voc_metrics(objects, found((1, 1, FAR, 0.5)), [1])["VOC_integral"] == 1
    assert voc_metrics(objects, found((1, 1, BOX, 0.9), (1, 1, FAR, 0.5)), [1])["VOC_integral"] == 1


def test_a_pixel_counts_at_both_ends():
    """10x10 pixels and the same, 4 to the right: shared 6 x 10, union 140: 60 / 140 is below 0.5.

    With 3 to the right 70 / 130 = 0.538 is above it; without the pixel at the end it would be 54 / 108 = 0.5.
    """
    for shift, right in ((4, 0), (3, 1)):
        metrics = voc_metrics(truth((1, 1, BOX, 0)), found((1, 1, [shift, 0, 9, 9], 0.5)), [1])
        assert metrics["VOC_integral"] == right


def test_the_mean_is_over_classes_with_objects():
    objects = truth((1, 1, BOX, 0), (1, 2, FAR, 0), (1, 3, FAR, 1))
    detections = found(
        (1, 1, BOX, 0.5), (1, 4, BOX, 0.5)
    )  # none of class 2; class 4 has no object, 3 a difficult one
    assert voc_metrics(objects, detections, [1])["VOC_11point"] == 0.5
    assert voc_metrics(truth((1, 1, BOX, 1)), [], [1]) == {"VOC_11point": -1, "VOC_integral": -1}


def test_other_images_do_not_count():
    objects = truth((1, 1, BOX, 0), (2, 1, BOX, 0))
    assert voc_metrics(objects, found((1, 1, BOX, 0.5), (3, 1, BOX, 0.9)), [1])["VOC_integral"] == 1


def test_both_ways_on_a_saw():
    precision, recall = np.array([1, 0.5, 2 / 3, 0.75]), np.array([0.25, 0.25, 0.5, 0.75])
    # At 0, 0.1, 0.2: 1; at 0.3 to 0.7: 0.75; then 0.
    assert eleven_points(precision, recall) == pytest.approx((3 + 5 * 0.75) / 11)
    assert integral(precision, recall) == pytest.approx(0.25 * (1 + 2 / 3 + 0.75))
