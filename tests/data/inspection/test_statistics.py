"""Counts of a data set, worked out by hand."""

from __future__ import annotations

import numpy as np

from picoquant.data.dataset import Dataset, Record
from picoquant.data.inspection.statistics import NetworkInput, Objects, statistics

NETWORK = NetworkInput(height=160, width=320, keep_ratio=False, stride=8)


def record(number, boxes, classes, crowds=None, size=(640, 640)):
    count = len(boxes)
    return Record(
        number,
        f"/images/{number}.jpg",
        *size,
        np.array(boxes, np.float32).reshape(count, 4),
        np.array(classes, np.int32),
        np.array(crowds if crowds else [False] * count, bool),
    )


# 640x640 onto 320x160 (width x height): x halves, y is a quarter.
SET = Dataset(
    (
        record(1, [[0, 0, 10, 20], [0, 0, 16, 8], [0, 0, 640, 640]], [0, 1, 1]),
        record(2, [], []),
        record(3, [[5, 5, 105, 45], [5, 5, 105, 45], [5, 5, 105, 45.004]], [0, 0, 0]),
        record(4, [[0, 0, 600, 600]], [2], [True]),
    ),
    ("a", "b", "c"),
    (1, 2, 3),
)


def test_sides_are_those_in_the_input():
    found = Objects.of(SET, NETWORK)
    assert found.sides[:4].tolist() == [[5, 5], [8, 2], [320, 160], [50, 10]]
    assert found.image.tolist() == [0, 0, 0, 2, 2, 2]


def test_a_kept_ratio_scales_both_sides_by_the_smaller_factor():
    kept = NetworkInput(160, 320, True, 8)
    assert Objects.of(SET, kept).sides[:2].tolist() == [[2.5, 5], [4, 2]]


def test_counts():
    counts = statistics(SET, NETWORK)
    assert (counts.images, counts.without_boxes, counts.boxes, counts.crowds) == (4, 2, 6, 1)
    assert counts.classes == (("a", 4, 2), ("b", 2, 1), ("c", 0, 0))
    # Longer sides: 5, 8, 320, 50, 50, 50.
    assert counts.sizes == ((8, 1), (16, 1), (32, 0), (64, 3), (128, 0), (None, 1))
    assert (counts.smallest, counts.median, counts.largest) == (5.0, 50.0, 320.0)


def test_too_small_is_below_the_stride_on_both_sides():
    counts = statistics(SET, NETWORK)  # 5x5 is, 8x2 is not
    assert counts.too_small == 1
    assert counts.too_small_example == "a [0, 0, 10, 20] of image 1.jpg, 5.0x5.0 in the input"


def test_a_box_written_again_is_counted_without_its_first():
    counts = statistics(SET, NETWORK)  # 45 and 45.004 differ by less than a hundredth of a pixel
    assert counts.repeated == 2
    assert counts.repeated_example.startswith("a [5, 5, 105, 45")


def test_the_same_box_of_another_class_or_image_is_no_repetition():
    apart = Dataset(
        (record(1, [[0, 0, 9, 9]] * 2, [0, 1]), record(2, [[0, 0, 9, 9]], [0])), ("a", "b"), (1, 2)
    )
    assert statistics(apart, NETWORK).repeated == 0


def test_a_data_set_without_boxes_has_no_sizes():
    counts = statistics(Dataset((record(1, [], []),), ("a",), (1,)), NETWORK)
    assert (counts.boxes, counts.median, counts.too_small_example) == (0, None, None)
    assert [boxes for _, boxes in counts.sizes] == [0] * 6
    assert statistics(Dataset((), ("a",), (1,)), NETWORK).images == 0
