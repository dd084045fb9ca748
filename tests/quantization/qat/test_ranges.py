"""Ranges that training starts from and ends with."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import UserError
from picoquant.int8.operators import QuantizableOperator
from picoquant.paddle_program.static.programs import read_variable
from picoquant.paddle_program.static.session import static_session
from picoquant.quantization.ptq.range_search import SMALLEST_RANGE
from picoquant.quantization.qat.learned_ranges.lsq import Lsq
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.learned_ranges.pact import Pact
from picoquant.quantization.qat.ranges import initialise_ranges, trained_ranges

OPERATOR = QuantizableOperator("conv2d", "y", "x", "w", 0)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (MovingAverage(), {"scale": 3.0, "state": 4.0, "accum": 12.0}),  # 1 / (1 - 0.75) batches at 3
        (Pact(), {"scale": 3.0, "state": 4.0, "accum": 12.0, "pact": 3.0}),
        (Lsq(), {"scale": 3.0}),
    ],
)
def test_a_range_starts_at_the_calibrated_one(strategy, expected):
    with static_session() as scope:
        initialise_ranges(strategy, [OPERATOR], {"x": 3.0}, moving_rate=0.75)
        names = {"scale": "x@scale", "state": "x@state", "accum": "x@accum", "pact": "x_pact"}
        for part, name in names.items():
            there = scope.find_var(name) is not None
            assert there == (part in expected)
            assert not there or read_variable(scope, name) == [expected[part]]


def test_a_tensor_of_zeros_starts_at_1_and_is_named(caplog):
    with static_session() as scope:
        initialise_ranges(Lsq(), [OPERATOR], {"x": SMALLEST_RANGE}, moving_rate=0.9)
        assert read_variable(scope, "x@scale") == [1.0]
    assert "x, the input of conv2d y, is 0 in all calibration images" in caplog.text


@pytest.mark.parametrize("found", [0.0, 1e-40])
def test_a_range_that_fell_to_nothing_is_the_smallest(found):
    """Of a tensor that has become 0 for every image; shrinking by a tenth a step it passes by 1e-40."""
    assert trained_ranges([OPERATOR], {"x@scale": np.float32([found])}) == {"x": SMALLEST_RANGE}
    with pytest.raises(UserError, match="trained range of x is -1"):
        trained_ranges([OPERATOR], {"x@scale": np.float32([-1.0])})
