"""Signal-to-noise and statistics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from picoquant.int8.quant_params import QuantParams
from picoquant.quantization.analysis.noise import Noise, plain
from picoquant.quantization.analysis.statistics import Saturation, Watch


def test_signal_to_noise_adds_up_over_images():
    noise = Noise()
    noise.add(np.array([3.0, 4.0]), np.array([3.0, 4.1]))  # signal 25, noise 0.01
    noise.add(np.array([5.0, 5.0]), np.array([5.0, 5.7]))  # signal 50, noise 0.49
    assert noise.decibels == pytest.approx(10 * math.log10(75 / 0.5), abs=1e-6)


def test_no_noise_is_infinite_and_empty_in_files():
    noise = Noise()
    assert math.isnan(noise.decibels)
    noise.add(np.ones(3), np.ones(3))
    assert noise.decibels == math.inf
    assert plain(noise.decibels) is None and plain(1.234) == 1.23


def test_values_of_a_tensor():
    watch = Watch()
    value = np.zeros((1, 4, 10, 10), np.float32)
    value[0, 0], value[0, 1], value[0, 2], value[0, 3] = 1, -2, 3, 1
    value[0, 0, 0, 0] = 50
    watch.add(value)
    values = watch.values()
    assert (values.low, values.high, values.absmax) == (-2, 50, 50)
    # Channels reach 50, 2, 3 and 1: their median is 2.5. All but one of 400 values are at most 3.
    assert values.channel_spread == 20
    assert values.percentiles[99.0] == 3
    # 99.9 % of 400 values is place 398.601 of 0 to 399: 3 + 0.601 * (50 - 3).
    assert values.outliers == pytest.approx(50 / (3 + 0.601 * 47), abs=1e-3)


def test_saturation_is_what_lies_beyond_half_a_level():
    seen = Saturation(QuantParams.symmetric(127.0))  # levels of 1
    seen.add(np.array([0.0, 127.4, 127.6, -200.0]))
    assert seen.share == 0.5
