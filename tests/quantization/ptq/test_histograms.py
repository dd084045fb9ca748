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
