"""Ranges from histograms, with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.quantization.ptq.gradient_histogram import GradientHistogram
from picoquant.quantization.ptq.histograms import Histogram
from picoquant.quantization.ptq.range_search import choose_ends, choose_range, choose_ranges, zero_point_of

METHODS = ("detections", "min_max", "percentile", "mse", "kl", "histogram")


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
    assert choose_range([(seen(values), None, None)], method) == pytest.approx(1.0, abs=0.04)


def test_a_percentile_cuts_what_it_says():
    values = np.concatenate([np.linspace(0, 1, 9900), np.full(100, 50.0)])
    assert choose_range([(seen(values), None, None)], "percentile", 98) == pytest.approx(0.99, abs=0.01)
    assert choose_range([(seen(values), None, None)], "percentile", 99.5) == pytest.approx(50, abs=0.01)


def test_the_histograms_part_is_99_999_percent():
    # 1 of 200,000 values may be cut, 4 may not.
    few = np.linspace(0, 1, 199_999)
    assert choose_range([(seen(few, [50.0]), None, None)], "histogram") == pytest.approx(1.0, abs=0.01)
    assert choose_range([(seen(few[3:], [50.0] * 4), None, None)], "histogram") == pytest.approx(
        50.0, abs=0.01
    )


def test_divergence_gives_up_rare_values_far_out_and_keeps_frequent_ones():
    """A normal distribution and a value 4 times as large: one of 100,000, or each tenth."""
    normal = np.random.RandomState(0).randn(100_000)
    far = 4 * np.abs(normal).max()
    assert choose_range([(seen(normal, [far]), None, None)], "min_max") == pytest.approx(far, rel=1e-3)
    rare = choose_range([(seen(normal, [far]), None, None)], "kl")
    assert 2.5 < rare < 1.3 * np.abs(normal).max()
    often = choose_range([(seen(normal, np.full(10_000, far)), None, None)], "kl")
    assert often == pytest.approx(far, rel=0.05)


def test_least_squares_is_what_trying_every_range_gives():
    values = np.random.RandomState(0).laplace(size=200_000).astype(np.float32)
    tops = np.linspace(1, np.abs(values).max(), 400)

    def error(top):
        return ((np.clip(np.rint(values / top * 127), -127, 127) * top / 127 - values) ** 2).mean()

    best = min(map(error, tops))
    found = choose_range([(seen(values), None, None)], "mse")
    assert error(found) < 1.05 * best
    assert found < 0.9 * np.abs(values).max()


@pytest.mark.parametrize("method", METHODS)
def test_what_hard_swish_drops_takes_no_levels(method):
    # Below -3 everything becomes 0: -560 may be clipped to -3, and 4 must stay.
    values = np.concatenate([np.linspace(-560, -3, 50_000), np.linspace(-3, 4, 50_000)])
    assert choose_range([(seen(values), hard_swish, None)], method) == pytest.approx(4.0, abs=0.3)
    assert choose_range([(seen(values), None, None)], "min_max") == 560


def test_relu6_needs_six():
    values = np.linspace(-100, 100, 50_001)
    found = choose_range([(seen(values), lambda x: np.clip(x, 0, 6), None)], "min_max")
    assert found == pytest.approx(6.0, abs=0.05)


def test_tensors_that_share_a_range_are_chosen_for_together():
    small, large = seen(np.linspace(-1, 1, 10_001)), seen(np.linspace(-8, 8, 10_001))
    for method in METHODS:
        assert choose_range([(small, None, None), (large, None, None)], method) == pytest.approx(8, abs=0.4)


def test_zeros_have_no_range():
    assert choose_range([(seen(np.zeros(9)), None, None)], "mse") == 0.0


def felt(values, gradients, function=None):
    """A tensor of `[images, values]` whose errors change an image's detections by their sum, times gradients."""
    histogram, weighed = seen(values), GradientHistogram(np.abs(values).max())
    weighed.add(values.astype(np.float32), gradients.astype(np.float32))
    return histogram, function, weighed


def cost_of(top, values, gradients):
    rounded = np.clip(np.rint(values / top * 127), -127, 127) * top / 127
    return np.square((gradients * (rounded - values)).sum(1)).mean()


def test_clipping_counts_by_what_it_adds_up_to():
    """Where the errors of all outliers push one way they are kept; where they cancel out, finer levels are worth more.

    The squares of gradients are the same in both.
    """
    random = np.random.RandomState(0)
    values = random.laplace(size=(64, 4000))
    signs = random.choice([-1, 1], values.shape)
    outside = np.abs(values) > 3
    found = {}
    for same_way in (False, True):
        gradients = np.where(outside, np.sign(values) if same_way else signs, 10 * signs)
        tops = np.geomspace(1, np.abs(values).max(), 60)
        best = min(cost_of(top, values, gradients) for top in tops)
        found[same_way] = choose_range([felt(values, gradients)], "detections")
        assert cost_of(found[same_way], values, gradients) < 1.5 * best  # 64 images tell no closer
    assert found[True] > 1.1 * found[False]


def test_what_no_detection_feels_is_clipped():
    values = np.tile(np.linspace(-2, 2, 4001), (50, 1))
    signs = np.random.RandomState(0).choice([-1, 1], values.shape)
    found = choose_range([felt(values, (np.abs(values) < 0.5) * signs)], "detections")
    assert found == pytest.approx(0.5, rel=0.06)


def test_an_activation_that_is_flat_still_feels_a_range_below_its_end():
    """ReLU6 gives 6 for 100 and for 6, but 5 where a range ends at 5."""
    values = np.concatenate([np.linspace(0.1, 5, 99), np.full(900, 100.0)])[None]
    found = choose_range([felt(values, np.ones_like(values), lambda x: np.clip(x, 0, 6))], "detections")
    assert found == pytest.approx(6, rel=0.06)


def test_without_gradients_the_squared_error_counts():
    known, unknown = np.random.RandomState(1).laplace(size=(2, 1, 5000))
    plain = (seen(unknown), None, None)
    assert choose_range([plain], "detections") == choose_range([plain], "mse")
    weighed = felt(known, np.random.RandomState(2).randn(1, 5000))
    assert choose_range([weighed, plain], "detections") == pytest.approx(
        choose_range([weighed], "detections"), rel=0.1
    )


def test_gradients_are_summed_by_value_and_image():
    histogram = GradientHistogram(2.0)
    width = 2.0 / 512
    values = np.float32([[[0.5 * width, 1.5 * width], [0, -2.0]], [[1.6 * width, 1.4 * width], [9.0, 0]]])
    gradients = np.float32([[[3, 4], [7, 5]], [[1, -6], [2, 7]]])
    histogram.add(values, gradients)
    filled = {512: [3, 0], 513: [4, -5], 0: [5, 0], 1023: [0, 2]}
    expected = np.zeros((2, 1024))
    for index, sums in filled.items():
        expected[:, index] = sums
    np.testing.assert_array_equal(histogram.sums, expected)
    squares = np.zeros(1024)
    squares[[512, 513, 0, 1023]] = np.array([9, 16 + 1 + 36, 25, 4]) / 2
    np.testing.assert_array_equal(histogram.squares, squares)
    assert histogram.centres[512] == pytest.approx(width / 2) and histogram.images == 2


@pytest.mark.parametrize("method", METHODS)
def test_each_end_is_where_the_values_end(method):
    # Nothing is rare; a symmetric range would have 127 of its 254 levels below -0.5.
    values = np.linspace(-0.5, 2, 100_001)
    low, high = choose_ends([(seen(values), None, None)], method)
    assert low == pytest.approx(-0.5, abs=0.03) and high == pytest.approx(2.0, abs=0.08)
    assert choose_ends([(seen(values + 0.7), None, None)], "min_max")[0] == 0.0  # 0 is always within
    assert choose_ends([(seen(np.zeros(9)), None, None)], method) == (0.0, 0.0)


def test_a_rare_value_is_cut_at_its_own_end():
    # (1.5 - x)^2 + 500,000 ((1 + x) / 255)^2 / 12 is least at 0.52.
    low, high = choose_ends([(seen(np.linspace(0, 1, 500_000), [-1.5]), None, None)], "mse")
    assert low == pytest.approx(-0.52, abs=0.05) and high == pytest.approx(1.0, abs=0.02)
    values = np.concatenate([np.linspace(0, 1, 99_990), np.full(10, -40.0)])
    assert choose_ends([(seen(values), None, None)], "percentile", 99.9) == (
        0.0,
        pytest.approx(1.0, abs=0.01),
    )
    whole = choose_ends([(seen(values), None, None)], "percentile", 99.99)
    assert whole == (pytest.approx(-40.0, abs=0.01), pytest.approx(1.0, abs=0.01))


def test_what_an_activation_does_not_see_needs_no_levels():
    values = np.linspace(-200, 4, 100_001)
    low, high = choose_ends([(seen(values), hard_swish, None)], "min_max")
    assert (low, high) == (pytest.approx(-3.0, abs=0.02), pytest.approx(4.0, rel=1e-5))
    assert choose_ends([(seen(values), lambda x: np.clip(x, 0, 6), None)], "min_max") == (
        pytest.approx(0.0, abs=1e-3),
        pytest.approx(4.0, rel=1e-5),
    )


def test_both_ends_are_found_where_errors_cost_the_detections_least():
    """Errors below 0 cost nothing, so no level is spent there; the same error of all values above is clipped last."""
    values = np.random.RandomState(0).uniform(-3, 1, (4, 4000)).astype(np.float32)
    gradients = np.where(values > 0, np.random.RandomState(1).choice([-1.0, 1.0], values.shape), 0.0)
    low, high = choose_ends([felt(values, gradients.astype(np.float32))], "detections")
    assert low > -0.3 and high == pytest.approx(1.0, abs=0.1)


def test_ends_as_they_are_kept():
    """255 steps from -1 to 4: 51 of them below 0, which is moved to a level."""
    value, zero = zero_point_of(-1.0, 4.0)
    assert (value, zero) == (pytest.approx(5 / 255 * 127), 51 - 128)
    assert zero_point_of(0.0, 2.55) == (pytest.approx(1.27), -128)
    assert zero_point_of(-2.55, 0.0) == (pytest.approx(1.27), 127)
    value, zero = zero_point_of(-1.0, 4.0, bits=4)
    assert (value, zero) == (pytest.approx(5 / 15 * 7), 3 - 8)


def test_a_group_shares_its_zero_point_and_symmetric_ones_have_none():
    histograms = {"a": seen(np.linspace(-1, 1, 999)), "b": seen(np.linspace(0, 4, 999)), "c": seen([0.0])}
    groups, none = (("a", "b"), ("c",)), dict.fromkeys(histograms)
    ranges, zeros = choose_ranges(groups, histograms, none, {}, "min_max", 99.9, symmetric=False)
    assert ranges["a"] == ranges["b"] == pytest.approx(5 / 255 * 127) and ranges["c"] == 0.0
    assert zeros == {"a": 51 - 128, "b": 51 - 128, "c": 0}
    assert choose_ranges(groups, histograms, none, {}, "min_max", 99.9) == (
        {"a": 4.0, "b": 4.0, "c": 0.0},
        {},
    )
