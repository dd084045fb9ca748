"""TFLite's arithmetic, worked out by hand; tests/backends/tflite holds it against LiteRT."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import ToolError
from picoquant.int8.functions import function_of
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation import tflite
from picoquant.npu.simulation.arithmetic import Requantiser
from picoquant.targets.integer_rules import Arithmetic, MultiplierRule, Rules

RULES = Rules(Arithmetic("int8", "tflite", MultiplierRule(31)))
INT8 = QuantParams(0.5, narrow=False)


def test_a_factor_is_31_bits_and_a_power_of_two():
    assert tflite.fixed_point(0.5) == (2**30, 0)  # 2**30 / 2**31
    assert tflite.fixed_point(3.0) == (3 * 2**29, 2)  # 0.75 * 4
    assert tflite.fixed_point(1 - 2**-33) == (2**30, 1)  # rounded up to 1
    assert tflite.fixed_point(2.0**-40) == (0, 0)  # too small to count


def test_a_product_is_rounded_twice():
    """7 / 16: 7 * 2**30 / 2**31 = 3.5, up to 4; 4 / 8 = 0.5, away from zero to 1. Rounded once it is 0.44, so 0."""
    number, exponent = tflite.fixed_point(1 / 16)
    assert (number, exponent) == (2**30, -3)
    values = np.array([7, -7, 8, -8, 5, -5])
    # -7: -3.5 goes up to -3 in the first step, and -3 / 8 is 0; 5: 2.5 up to 3, 3 / 8 is 0
    assert tflite.multiplied(values, number, exponent).tolist() == [1, 0, 1, -1, 0, 0]
    single = Requantiser.of(1 / 16, Rules(Arithmetic("int8", "half_away", MultiplierRule(31))), -128, 127)
    assert single(values).tolist() == [0, 0, 1, -1, 0, 0]
    assert Requantiser.of(1 / 16, RULES, -128, 127)(values).tolist() == [1, 0, 1, -1, 0, 0]


def test_a_requantiser_keeps_its_limits_and_axis():
    requantise = Requantiser.of(np.array([0.5, 2.0]), RULES, 0, 100)
    assert requantise(np.array([[3, -9], [30, 80]])).tolist() == [[2, 0], [60, 100]]


def test_a_sum_is_of_shifted_terms():
    """3 * 0.5 + 4 * 0.25 = 2.5 -> 5 steps of 0.5; what does not fit is limited."""
    other = QuantParams(0.25, narrow=False)
    sources, first, second = [INT8, other], np.array([3, 127, -128]), np.array([4, 127, -128])
    assert tflite.add(first, second, sources, INT8, (-128, 127)).tolist() == [5, 127, -128]
    assert tflite.add(first, second, sources, INT8, (0, 127)).tolist() == [5, 127, 0]


def test_a_mean_is_of_the_whole_image():
    """11 / 4 = 2.75 -> 3; in steps twice as large 11 / 2 is 6, 6 / 4 is 2: 1.375, rounded twice."""
    image = np.array([1, 2, 3, 5]).reshape(1, 1, 2, 2)
    assert tflite.mean_of_image(image, INT8, INT8).tolist() == [[[[3]]]]
    assert tflite.mean_of_image(image, INT8, QuantParams(1.0, narrow=False)).tolist() == [[[[2]]]]


def table(kind, source, result, **attributes):
    entries = tflite.function_table(kind, attributes, function_of(kind, attributes), source, result)
    return {value: int(entries[value - source.low]) for value in (-128, -8, -2, 0, 2, 5, 127)}


def test_functions_of_one_tensor():
    assert table("relu", INT8, INT8) == {-128: 0, -8: 0, -2: 0, 0: 0, 2: 2, 5: 5, 127: 127}
    assert table("relu6", INT8, INT8) == {-128: 0, -8: 0, -2: 0, 0: 0, 2: 2, 5: 5, 127: 12}  # 6 / 0.5
    leaky = table("leaky_relu", INT8, INT8, alpha=0.25)
    assert leaky == {-128: -32, -8: -2, -2: -1, 0: 0, 2: 2, 5: 5, 127: 127}  # -0.5 away from zero
    sigmoid = QuantParams(1 / 256, -128, narrow=False)  # integers less the zero point: 0 to 255
    assert table("sigmoid", INT8, sigmoid) == {
        -128: 0,
        -8: 5,
        -2: 69,
        0: 128,
        2: 187,
        5: 237,
        127: 255,
    }  # fmt: skip  1 / (1 + exp(4)) = 0.018 * 256 = 4.6
    # x * relu6(x + 3) / 6: -1 * 2 / 6 = -0.333, 1 * 4 / 6 = 0.667, 2.5 * 5.5 / 6 = 2.29
    swish = table("hard_swish", INT8, QuantParams(0.125, narrow=False))
    assert swish == {-128: 0, -8: 0, -2: -3, 0: 0, 2: 5, 5: 18, 127: 127}
    gate = table("hard_sigmoid", INT8, QuantParams(1 / 127, narrow=False), slope=1 / 6, offset=0.5)
    assert gate[-128] == gate[-8] == 0 and gate[0] in (63, 64) and gate[127] == 127  # 0.5 is 63.5 steps
    assert abs(gate[2] - 84.67) < 1 and abs(gate[5] - 116.4) < 1
    with pytest.raises(ToolError, match="TFLite has no integer kernel for swish"):
        table("swish", INT8, INT8)
