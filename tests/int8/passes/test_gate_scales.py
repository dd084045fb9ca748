"""Scales with which a hard-swish's gate ends at integers: worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.int8.passes.gate_scales import gate_ranges, steps_of_gate


def settled(value, zero=None, bits=8):
    ranges, zeros = gate_ranges(
        {"x": value}, ["x"], [("x",)], bits, None if zero is None else {"x": zero - 2 ** (bits - 1)}
    )
    return ranges["x"], None if zero is None else zeros["x"] + 2 ** (bits - 1)


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (6.0, 64),  # 63.5: 381 / 64 is 0.78 % off, 381 / 63 0.79 %
        (6.1, 62),  # 62.46
        (20.0, 19),  # 19.05
        (16.0, 24),  # 23.8, 0.8 % off
        (2.95, 128),  # 129.2 would close the gate below the integers: 0.9 % more
        (3.0, 127),
    ],
)
def test_symmetric_ranges(value, steps):
    found, _ = settled(value)
    assert found == pytest.approx(381 / steps) and abs(found / value - 1) <= 0.02
    assert steps_of_gate(float(np.float32(found)) / 127, 128) == steps
    assert settled(found)[0] == found  # stays from then on


@pytest.mark.parametrize("value", [600.0, 2.6, 1.0, 0.001, 260.0, 16.21])  # of the last 23.5 steps: 2.1 % off
def test_what_is_not_near_stays(value):
    assert settled(value) == (value, None)
    assert steps_of_gate(value / 127, 128) is None


@pytest.mark.parametrize(
    ("low", "high", "steps", "zero"),
    [
        (-3.0, 6.0, 85, 85),  # 255 steps of 9 / 255: it is so already
        (-3.0, 7.0, 76, 76),  # 76.5 steps
        (-2.96, 6.0, 85, 85),  # the gate closes a little below
        (-4.0, 6.0, 76, 101),  # 76.5 steps; 77 would leave 1.3 % of 6 off
    ],
)
def test_ranges_with_a_zero_point(low, high, steps, zero):
    scale = (high - low) / 255
    value, found = settled(scale * 127, int(np.rint(-low / scale)))
    assert value == pytest.approx(381 / steps) and found == zero
    assert steps_of_gate(value / 127, found) == steps and (255 - found) * value / 127 >= 0.98 * high
    assert settled(value, found) == (value, found)


@pytest.mark.parametrize(("low", "high"), [(-2.0, 6.0), (-3.0, 100.0), (0.0, 1.0), (-1.0, 0.0)])
def test_ranges_with_a_zero_point_that_stay(low, high):
    scale = (high - low) / 255
    zero = int(np.rint(-low / scale))
    assert settled(scale * 127, zero) == (scale * 127, zero)


def test_a_group_is_moved_together():
    ranges, zeros = {"x": 6.0, "beside": 6.0, "other": 6.0, "inside": 5.0}, {}
    found, zeros = gate_ranges(
        ranges, ["x", "unknown"], [("beside", "x"), ("other",), ("unknown",)], 8, zeros
    )
    assert found == {**ranges, "x": 381 / 64, "beside": 381 / 64} and zeros == {}
    zeros = {"x": -43, "beside": -43, "other": -43}
    value = 127 * 9.05 / 255
    found, moved = gate_ranges(dict.fromkeys(zeros, value), ["x"], [("beside", "x"), ("other",)], 8, zeros)
    assert found == {"x": 381 / 85, "beside": 381 / 85, "other": value}
    assert moved == zeros


def test_other_numbers_of_bits():
    assert settled(6.0, bits=4)[0] == 6.0  # 3.5 steps: the next are 14 % away
    assert settled(5.2, bits=4)[0] == pytest.approx(21 / 4)


def test_a_gate_that_does_not_close_is_none():
    assert steps_of_gate(0.05, 60) == 60
    assert steps_of_gate(0.05, 59) is None and steps_of_gate(0.0501, 60) is None
