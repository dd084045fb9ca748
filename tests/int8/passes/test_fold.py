"""Batch-norms in an INT8 program: scales and signs change, integers do not."""

from __future__ import annotations

import numpy as np

from picoquant.int8.network import QuantizedOperator
from picoquant.int8.paddle.reader import read_network
from picoquant.int8.passes.fold import scaled
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.batch_norm import factor_and_shift
from picoquant.paddle_program.edit import batch_of_one
from picoquant.paddle_program.params import read_params
from tests.networks.small_int8 import write_small


def test_factor_changes_scale_and_sign_only():
    integers = np.array([[10, -127], [5, 0]], np.int8)
    operator = QuantizedOperator(
        "conv2d", "y", "x", "w", integers, QuantParams(np.array([0.5, 0.25]), axis=0)
    )
    # Channel 0 times -2: signs turn, scale 0.5 becomes 1.0. Channel 1 times 0: all zero, scale above 0.
    changed = scaled(operator, np.array([-2.0, 0.0]))
    assert changed.integers.tolist() == [[-10, 127], [0, 0]] and changed.integers.dtype == np.int8
    assert changed.scales[0] == 1.0 and 0 < changed.scales[1] < 1e-9


def test_factor_and_shift():
    # gamma 2, beta 1, mean 6, variance 4 - 1e-5: factor = 2 / sqrt(4) = 1; shift = (0.5 - 6) * 1 + 1 = -4.5.
    parts = {"Scale": [2.0], "Bias": [1.0], "Mean": [6.0], "Variance": [4.0 - 1e-5]}
    parts = {name: np.array(value) for name, value in parts.items()}
    factor, shift = factor_and_shift(parts, 1e-5, np.array([0.5]))
    np.testing.assert_allclose((factor, shift), ([1.0], [-4.5]))
    assert factor.dtype == np.float64 and shift.dtype == np.float32


def test_a_weight_of_two_operators_gets_scales_for_each(tmp_path):
    folder = write_small(tmp_path, shared=True)
    program = batch_of_one(folder.model, (32, 32))
    network = read_network(program, read_params(program, folder.params), folder.model)
    heads = [operator for operator in network.operators if operator.weight.startswith("class")]
    assert len(heads) == 2 and heads[0].weight == heads[1].weight  # no batch-norm behind it: one weight
    assert heads[0].bias != heads[1].bias
    np.testing.assert_array_equal(heads[0].integers, heads[1].integers)
