"""Ranges from histograms, with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.quantization.ptq.histograms import Histogram
from picoquant.quantization.ptq.range_search import choose_range

METHODS = ("min_max", "percentile", "mse", "kl", "histogram")


def seen(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, np.float32))
    return histogram


def hard_swish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def test_a_histogram_that_grows_keeps_its_counts():
    histogram = seen([0.001, -0.001], [5.0], [-300.0, 0.5])
    assert histogram.counts.sum() == 5 and histogram.bound == 512
    assert (histogram.low, histogram.high, histogram.absmax) == (-300, 5, 300)
    found = np.repeat(histogram.centres, histogram.counts)
    np.testing.assert_allclose(found, [-300, -0.001, 0.001, 0.5, 5.0], atol=512 / 8192)


@pytest.mark.parametrize("method", METHODS)
def test_uniform_values_are_kept_whole(method):
    # Nothing is rare: clipping costs more than finer levels give.
    values = np.linspace(-1, 1, 100_001)
    assert choose_range([(seen(values), None)], method) == pytest.approx(1.0, abs=0.04)


def test_a_percentile_cuts_what_it_says():
    values = np.concatenate([np.linspace(0, 1, 9900), np.full(100, 50.0)])
    assert choose_range([(seen(values), None)], "percentile", 98) == pytest.approx(0.99, abs=0.01)
    assert choose_range([(seen(values), None)], "percentile", 99.5) == pytest.approx(50, abs=0.01)


def test_the_histograms_part_is_99_999_percent():
    # 1 of 200,000 values may be cut, 4 may not.
    few = np.linspace(0, 1, 199_999)
    assert choose_range([(seen(few, [50.0]), None)], "histogram") == pytest.approx(1.0, abs=0.01)
    assert choose_range([(seen(few[3:], [50.0] * 4), None)], "histogram") == pytest.approx(50.0, abs=0.01)


def test_divergence_gives_up_rare_values_far_out_and_keeps_frequent_ones():
    """A normal distribution and a value 4 times as large: one of 100,000, or each tenth."""
    normal = np.random.RandomState(0).randn(100_000)
    far = 4 * np.abs(normal).max()
    assert choose_range([(seen(normal, [far]), None)], "min_max") == pytest.approx(far, rel=1e-3)
    rare = choose_range([(seen(normal, [far]), None)], "kl")
    assert 2.5 < rare < 1.3 * np.abs(normal).max()
    often = choose_range([(seen(normal, np.full(10_000, far)), None)], "kl")
    assert often == pytest.approx(far, rel=0.05)


def test_least_squares_is_what_trying_every_range_gives():
    values = np.random.RandomState(0).laplace(size=200_000).astype(np.float32)
    tops = np.linspace(1, np.abs(values).max(), 400)

    def error(top):
        return ((np.clip(np.rint(values / top * 127), -127, 127) * top / 127 - values) ** 2).mean()

    best = min(map(error, tops))
    found = choose_range([(seen(values), None)], "mse")
    assert error(found) < 1.05 * best
    assert found < 0.9 * np.abs(values).max()


@pytest.mark.parametrize("method", METHODS)
def test_what_hard_swish_drops_takes_no_levels(method):
    # Below -3 everything becomes 0: -560 may be clipped to -3, and 4 must stay.
    values = np.concatenate([np.linspace(-560, -3, 50_000), np.linspace(-3, 4, 50_000)])
    assert choose_range([(seen(values), hard_swish)], method) == pytest.approx(4.0, abs=0.3)
    assert choose_range([(seen(values), None)], "min_max") == 560


def test_relu6_needs_six():
    values = np.linspace(-100, 100, 50_001)
    found = choose_range([(seen(values), lambda x: np.clip(x, 0, 6))], "min_max")
    assert found == pytest.approx(6.0, abs=0.05)


def test_tensors_that_share_a_range_are_chosen_for_together():
    small, large = seen(np.linspace(-1, 1, 10_001)), seen(np.linspace(-8, 8, 10_001))
    for method in METHODS:
        assert choose_range([(small, None), (large, None)], method) == pytest.approx(8, abs=0.4)


def test_zeros_have_no_range():
    assert choose_range([(seen(np.zeros(9)), None)], "mse") == 0.0
