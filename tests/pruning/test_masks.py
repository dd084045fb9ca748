"""Which weights become 0, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.pruning.masks import masks_of, threshold_of

FIRST = np.float32([[0.1, -0.4], [0.3, -0.2]])
SECOND = np.float32([[1, -2], [3, -4]])


@pytest.mark.parametrize(
    ("part", "threshold"),
    [(0, 0.1), (0.25, 0.1), (0.5, 0.2), (0.6, 0.2), (0.625, 0.2), (0.75, 0.3), (0.99, 0.4)],
)
def test_the_threshold(part, threshold):
    """The value at position round(part * 4) - 1; a half is rounded to the even number, as Python does."""
    assert threshold_of(FIRST, part) == np.float32(threshold)


def test_each_layer_alone():
    found = masks_of({"first": FIRST, "second": SECOND}, 0.75, local=True)
    assert found["first"].tolist() == [[0, 1], [1, 0]]  # the threshold, 0.3, stays
    assert found["second"].tolist() == [[0, 0], [1, 1]]


def test_all_layers_together():
    found = masks_of({"first": FIRST, "second": SECOND}, 0.75, local=False)  # of 8 the 6th smallest is 2
    assert found["first"].tolist() == [[0, 0], [0, 0]]
    assert found["second"].tolist() == [[0, 1], [1, 1]]


def test_a_threshold():
    found = masks_of({"first": FIRST, "second": SECOND}, 0.0, local=False, threshold=0.3)
    assert found["first"].tolist() == [[0, 1], [1, 0]]
    assert found["second"].all()
