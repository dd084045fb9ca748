"""Ranges that training starts from and ends with."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import UserError
from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.quant_params import SMALLEST_RANGE
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.qat.learned_ranges.lsq import Lsq
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.learned_ranges.pact import Pact
from picoquant.quantization.qat.learned_ranges.strategy import RangeStrategy
from picoquant.quantization.qat.ranges import initialise_ranges, trained_ranges
from picoquant.quantization.qat.student import Student

OPERATOR = QuantizableOperator("conv2d", "y", "x", "w", 0)


def student(strategy: RangeStrategy) -> Student:
    """A student of one operator, without its network."""
    found = strategy.range_of("x", QuantAwareSettings(moving_rate=0.75), False, (-1, 3, 8, 8))
    return Student(None, (OPERATOR,), {"x": found}, {})


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (MovingAverage(), {"x@scale": 3.0, "x@state": 4.0, "x@accum": 12.0}),  # 1 / (1 - 0.75) batches at 3
        (Pact(), {"x@scale": 3.0, "x@state": 4.0, "x@accum": 12.0, "x_pact": 3.0}),
        (Lsq(), {"x@scale": 3.0}),
    ],
)
def test_a_range_starts_at_the_calibrated_one(strategy, expected):
    trained = student(strategy)
    initialise_ranges(trained, {"x": 3.0})
    assert {name: value.item() for name, value in trained.ranges["x"].stored.items()} == expected


def test_a_tensor_of_zeros_starts_at_1_and_is_named(caplog):
    trained = student(Lsq())
    initialise_ranges(trained, {"x": SMALLEST_RANGE})
    assert trained.ranges["x"].stored["x@scale"].item() == 1.0
    assert "x, the input of conv2d y, is 0 in all calibration images" in caplog.text


@pytest.mark.parametrize("found", [0.0, 1e-40])
def test_a_range_that_fell_to_nothing_is_the_smallest(found):
    """Of a tensor that has become 0 for every image; shrinking by a tenth a step it passes by 1e-40."""
    assert trained_ranges([OPERATOR], {"x@scale": np.float32([found])}) == {"x": SMALLEST_RANGE}
    with pytest.raises(UserError, match="trained range of x is -1"):
        trained_ranges([OPERATOR], {"x@scale": np.float32([-1.0])})
