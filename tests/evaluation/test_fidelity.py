"""Fidelity against hand-worked numbers."""

from __future__ import annotations

import json

import pytest

from picoquant.errors import DataError
from picoquant.evaluation.fidelity import agreement, detections_as_objects, fidelity
from picoquant.evaluation.paired import bootstrapped, paired

FRAME = {
    "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, 3, 4)],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}],
}
IDS = (1, 2, 3, 4)


def found(image, category, x, score, side=10.0):
    return {"image_id": image, "category_id": category, "bbox": [x, 0.0, side, side], "score": score}


REFERENCE = [
    found(1, 1, 0, 0.9), found(1, 1, 40, 0.5), found(2, 1, 0, 0.8), found(3, 2, 0, 0.3), found(3, 2, 90, 0.29),
]  # fmt: skip


def test_the_same_detections_have_1():
    same = fidelity(FRAME, REFERENCE, REFERENCE, IDS)
    assert (same.value, same.low, same.high) == pytest.approx((1, 1, 1))
    assert (same.detections, same.images, same.reference) == (4, 3, "FP32")  # the last has a score below 0.3


def test_missed_moved_and_other_detections():
    """Class 1: one of three is missed, one overlaps by 9 / 11; class 2: all there, after one too many."""
    others = [
        found(1, 1, 0, 0.7), found(2, 1, 1, 0.6), found(3, 2, 0, 0.2), found(4, 2, 0, 0.9),
    ]  # fmt: skip
    value = fidelity(FRAME, REFERENCE, others, IDS).value
    # IoU 0.818: at 7 of 10 thresholds two of three are hit (67 of COCO's 101 recalls), else one (34 of them);
    # behind one that is too many, the only one of class 2 has a precision of a half.
    first = (7 * 67 + 3 * 34) / 10 / 101
    assert value == pytest.approx((first + 0.5) / 2, abs=1e-6)
    assert agreement(detections_as_objects(FRAME, REFERENCE), others, IDS) == pytest.approx(value, abs=1e-12)


def test_without_a_detection_there_is_no_agreement():
    assert agreement(detections_as_objects(FRAME, REFERENCE[-1:]), REFERENCE, IDS) is None


def test_what_counts_as_an_object():
    truth = detections_as_objects(FRAME, REFERENCE)
    assert [entry["id"] for entry in truth["annotations"]] == [1, 2, 3, 4]
    assert truth["annotations"][1]["area"] == 100.0 and truth["categories"] == FRAME["categories"]
    assert len(detections_as_objects(FRAME, REFERENCE, 0.6)["annotations"]) == 2


def test_a_reference_that_sees_nothing_is_an_error():
    with pytest.raises(DataError, match="onnx_fp32 detects nothing with a score of 0.3 or more"):
        fidelity(FRAME, REFERENCE[-1:], REFERENCE, IDS, "onnx_fp32")


def test_interval_is_that_of_resampled_images():
    """Of 40 images half are right: their mean is 0.5, whose standard error is 0.5 / sqrt(40)."""
    images = list(range(1, 41))
    frame = {"images": [{"id": one} for one in images], "categories": FRAME["categories"][:1]}
    reference = [found(one, 1, 0, 0.9) for one in images]
    others = [found(one, 1, 0 if one % 2 else 500, 0.9) for one in images]
    truth = detections_as_objects(frame, reference)
    value, low, high = bootstrapped(truth, others, images)
    again = fidelity(frame, reference, others, images)
    assert (again.value, again.low, again.high) == (value, low, high)
    assert low < value < high and 0.1 < high - low < 0.5
    # A model against itself has no difference, against the other the same as the two values.
    pair = paired(truth, others, reference, images)
    assert pair.difference == pytest.approx(1 - value)


def test_as_json_and_text():
    same = fidelity(FRAME, REFERENCE, REFERENCE, IDS, "onnx_fp32")
    values = json.loads(json.dumps(same.as_dict()))
    assert values.pop("value") == pytest.approx(1) and values.pop("interval_95") == pytest.approx([1, 1])
    assert values == {"detections": 4, "images": 3, "reference": "onnx_fp32", "score": 0.3}
    assert same.to_text() == (
        "fidelity 1.0000, 95 % interval 1.0000 to 1.0000: mAP against the 4 detections of onnx_fp32 with a score of "
        "0.3 or more, on 3 images"
    )
