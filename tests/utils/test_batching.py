"""Batches of any size through models made for a fixed one."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import WeightsError
from picoquant.utils.batching import in_batches


def test_parts_are_filled_up_and_the_filling_dropped():
    seen = []

    def run(feed):
        seen.append(len(feed["image"]))
        return [feed["image"] * 2.0, feed["image"].sum(axis=2)]

    images = np.arange(30.0).reshape(5, 2, 3)
    for size, parts in ((2, [2, 2, 2]), (-1, [5]), (5, [5]), (8, [8])):
        seen.clear()
        double, sums = in_batches(run, {"image": images}, size)
        np.testing.assert_array_equal(double, images * 2)
        np.testing.assert_array_equal(sums, images.sum(axis=2))
        assert seen == parts


@pytest.mark.parametrize("size", [0, -2, 257, 2**31])
def test_sizes_that_no_model_has_are_refused(size):
    with pytest.raises(WeightsError, match=rf"takes {size} images at a time, not 1 to 256"):
        in_batches(lambda feed: [], {"image": np.zeros((5, 3))}, size)
