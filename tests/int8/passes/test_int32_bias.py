"""Scales in which biases fit into INT32 and are whole numbers."""

from __future__ import annotations

import numpy as np

from picoquant.int8.network import QuantizedOperator
from picoquant.int8.passes.int32_bias import (
    in_other_scales,
    quantise_bias,
    with_exact_bias,
    with_room_for_bias,
)
from picoquant.int8.quant_params import QuantParams


def test_room_for_bias():
    integers = np.array([[100], [100]], np.int8)
    # Channel 0: 1 / (1e-3 * 0.1) = 1e4 fits. Channel 1: 1 / (1e-12 * 0.1) = 1e13 does not; the scale rises
    # to 1 / (2^30 * 0.1), and 100 steps of 1e-12 are then less than half a step.
    before = np.array([1e-3, 1e-12])
    scales = with_room_for_bias(before, np.array([1.0, 1.0]), 0.1)
    changed = in_other_scales(integers, before, scales)
    assert changed.tolist() == [[100], [0]]
    np.testing.assert_allclose(scales, [1e-3, 1 / (2**30 * 0.1)])


def test_bias_is_a_whole_number_of_steps():
    integers = np.array([[100], [100], [100], [100]], np.int8)
    scales, bias = np.array([0.01, 1.0, 90.0, 1.0]), np.array([0.5, 2.5, 3.0, 0.01])
    # Input scale 1, result scale 0.1, so a bias may be off by 0.025. Channel 0: 50 steps, as it was.
    # Channel 1: 2.5 steps become 2 of 1.25, weights 100 of 1 become 80 of 1.25. Channel 2: 3 / 90 of a step;
    # with steps of 2 * 0.1 it is 15 of them, and 100 * 90 is limited to 127 * 0.2. Channel 3: without effect.
    finer = with_exact_bias(scales, bias, 1.0, 0.1)
    changed = in_other_scales(integers, scales, finer)
    assert changed.ravel().tolist() == [100, 80, 127, 100]
    np.testing.assert_allclose(finer, [0.01, 1.25, 0.2, 1.0])
    params = QuantParams(scales, axis=0)
    made = quantise_bias(QuantizedOperator("conv2d", "y", "x", "w", integers, params), bias, 1.0, 0.1)
    assert made.bias_integers.tolist() == [50, 2, 15, 0]
    np.testing.assert_array_equal(made.integers, changed)
    # Without the result's scale only room is made, which all have.
    plain = quantise_bias(QuantizedOperator("conv2d", "y", "x", "w", integers, params), bias, 1.0, None)
    assert plain.bias_integers.tolist() == [50, 2, 0, 0] and plain.params is params


def test_one_scale_for_the_whole_weight_stays_one():
    integers = np.full((2, 3), 50, np.int8)
    operator = QuantizedOperator("conv2d", "y", "x", "w", integers, QuantParams(1e-12))
    made = quantise_bias(operator, np.array([1.0, -0.5]), 0.1, 0.01)
    assert made.params.scale == 1 / (2**30 * 0.1) and made.params.axis == -1
    assert made.bias_integers.tolist() == [2**30, -(2**29)]
