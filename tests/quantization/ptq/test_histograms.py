"""Histograms of tensors."""

from __future__ import annotations

import numpy as np

from picoquant.quantization.ptq.histograms import BINS, Histogram, bins_of


def test_bins_are_equal_and_what_is_outside_is_in_the_last():
    values = np.float32([-9.0, -4.0, -0.001, 0.0, 0.001, 3.999, 4.0, 9.0])
    assert bins_of(values, 4.0, 4).tolist() == [0, 0, 3, 4, 4, 7, 7, 7]


def test_of_very_many_values_some_are_counted_but_all_are_looked_at():
    random = np.random.RandomState(0)
    values = random.randn(4, 1 << 18).astype(np.float32)
    values[1, 1], values[3, -2] = -77.0, 99.0  # neither is among those that are counted
    histogram = Histogram()
    histogram.add(values)
    assert (histogram.low, histogram.high, histogram.bound) == (-77.0, 99.0, 128.0)
    assert histogram.counts.sum() == values.size // 2
    part = histogram.counts[:BINS].sum() / histogram.counts.sum()
    assert abs(part - 0.5) < 0.005  # half are below 0
    few = Histogram()
    few.add(values[:, :1000])
    assert few.counts.sum() == 4000


def test_parts_of_a_batch_count_what_the_batch_counts():
    random = np.random.RandomState(1)
    values = random.randn(8, 1 << 17).astype(np.float32) * np.float32(
        [[0.1], [9], [1], [3], [0.2], [70], [1], [1]]
    )
    whole, parts = Histogram(), Histogram()
    whole.add(values)
    assert whole.counts.sum() == values.size // 2
    for start, end in ((0, 1), (1, 4), (4, 8)):
        part = Histogram()
        part.add(values[start:end, : 1 << 17], start << 17, values.size)
        parts.merge(part)
    parts.merge(Histogram())  # of nothing
    assert (parts.low, parts.high, parts.bound) == (whole.low, whole.high, whole.bound)
    np.testing.assert_array_equal(parts.counts, whole.counts)
