"""Which images are shown, and the boxes over them."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from picoquant.errors import DataError
from picoquant.evaluation.confusion import match
from picoquant.evaluation.paired import ImageChange
from picoquant.report.choice import typical_images, worst_images
from picoquant.report.pictures import class_colour, pair_of, shown_classes


def change(image_id, first, second):
    return ImageChange(image_id, f"{image_id}.jpg", first, second)


IMAGES = [
    change(1, 0.9, 0.1), change(2, 0.5, 0.45), change(3, 0.5, 0.5), change(4, 0.5, 0.52), change(5, 0.1, 0.9),
]  # fmt: skip


def test_the_worst_lost_most_and_the_typical_are_in_the_middle():
    assert [image.image_id for image in worst_images(IMAGES, 3)] == [1, 2]  # no third one lost anything
    worst = worst_images(IMAGES, 1)
    assert [image.image_id for image in typical_images(IMAGES, 2, worst)] == [3, 4]
    assert [image.image_id for image in typical_images(IMAGES, 1, IMAGES[2:3])] == [4]
    assert worst_images([], 2) == typical_images([], 2) == []


def test_boxes_lie_over_the_image_in_its_own_pixels(tmp_path):
    path = tmp_path / "big.png"
    image = np.zeros((900, 1440, 3), np.uint8)
    image[:, :720] = (0, 0, 255)  # red, as OpenCV writes
    cv2.imwrite(str(path), image)
    objects = [
        {"category_id": 4, "bbox": [10.0, 10.0, 100.0, 100.0]},
        {"category_id": 8, "bbox": [500, 10, 50, 50]},
    ]
    right = {"category_id": 4, "bbox": [10.04, 10.0, 100.0, 100.0], "score": 0.875}
    wrong = {"category_id": 4, "bbox": [500.0, 10.0, 50.0, 50.0], "score": 0.75}
    matched = {"fp32": match([right, wrong], objects, 0.5, 0.5), "int8": match([], objects, 0.5, 0.5)}
    categories = {4: (0, "a"), 8: (2, "b"), 9: (3, "c")}
    pair = pair_of(change(1, 0.5, 0.25), str(path), matched, categories)
    assert (pair.name, pair.width, pair.height, pair.change) == ("big.png", 1440, 900, -0.25)
    head, data = pair.source.split(",")
    assert head == "data:image/jpeg;base64"
    held = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert held.shape == (450, 720, 3) and held[200, 100, 2] > 250 and held[200, 100, 0] < 5
    first, second = pair.panels
    assert (first.model, first.right, first.false, first.missed, first.mean_ap) == ("FP32", 1, 1, 0, 0.5)
    assert (second.right, second.false, second.missed) == (0, 0, 2)
    assert [(mark.x, mark.kind, mark.title) for mark in first.marks] == [
        (10.0, "right", "a 0.88, right"),
        (500.0, "false", "a 0.75, false: it is b"),
    ]
    assert shown_classes([pair], categories) == [("a", class_colour(0)), ("b", class_colour(2))]


def test_an_image_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png"):
        pair_of(change(1, 0, 0), str(tmp_path / "gone.png"), {}, {})
