"""Operators in integers, bit by bit against ONNX Runtime's kernels where both define the same rule.

ONNX Runtime multiplies by a float32 and rounds halves to even (`multiplier: null`). Where a target multiplies by
integers, results differ by one level at most, and only where the exact value is next to a half.
"""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.int8.functions import function_of
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation import operators
from picoquant.npu.simulation.arithmetic import Multiplier, Requantiser, shader_table, table, target_params
from picoquant.npu.simulation.convolution import Geometry, convolve, exact_type
from picoquant.targets.integer_rules import Arithmetic, MultiplierRule, Rules
from tests.npu.simulation.onnx_kernels import onnx_runtime

FLOAT = Rules(Arithmetic("uint8", "half_to_even", None))
FIXED = Rules(Arithmetic("uint8", "half_to_even", MultiplierRule(31)))
RULES = pytest.mark.parametrize("rules", [FLOAT, FIXED], ids=["float", "fixed"])
f32 = np.float32


def stored(levels: np.ndarray, how: QuantParams) -> np.ndarray:
    return (levels + how.zero_point).astype(np.uint8)


def random_levels(seed: int, shape: tuple, how: QuantParams) -> np.ndarray:
    return np.random.default_rng(seed).integers(how.low, how.high + 1, shape).astype(np.int16)


def scale_and_zero(how: QuantParams, name: str) -> dict:
    return {f"{name}_scale": f32(how.scale), f"{name}_zero": np.uint8(how.zero_point)}


def agrees(found: np.ndarray, wanted: np.ndarray, rules: Rules) -> None:
    """Equal for the same rule; for integers one level off in at most one of a thousand."""
    difference = np.abs(found.astype(int) - wanted.astype(int))
    if rules is FLOAT:
        assert difference.max() == 0
    else:
        assert difference.max() <= 1 and np.count_nonzero(difference) <= max(1, difference.size // 1000)


@RULES
@pytest.mark.parametrize(
    ("shape", "geometry"),
    [
        ((24, 16, 1, 1), Geometry()),
        ((24, 16, 1, 1), Geometry(strides=(2, 2))),
        ((8, 16, 3, 3), Geometry((2, 2), (1, 1, 1, 1))),
        ((16, 1, 5, 5), Geometry((1, 1), (2, 2, 2, 2), groups=16)),
        ((16, 1, 5, 5), Geometry((2, 2), (2, 2, 2, 2), groups=16)),
        ((16, 1, 3, 3), Geometry((2, 2), (0, 1, 0, 1), groups=16)),
        ((16, 1, 3, 3), Geometry((1, 1), (2, 2, 2, 2), (2, 2), groups=16)),
        ((8, 4, 3, 3), Geometry((1, 1), (1, 1, 1, 1), groups=4)),
    ],
)
@pytest.mark.parametrize("per_channel", [True, False])
def test_convolution(rules, shape, geometry, per_channel):
    random = np.random.default_rng(7)
    source, result = target_params(4.0, rules), target_params(6.0, rules)
    image = random_levels(1, (16, 13, 15), source)
    weights = random.integers(-127, 128, shape).astype(np.int8)
    count = shape[0] if per_channel else 1
    scales = (random.random(count) * 4e-2 / np.sqrt(np.prod(shape[1:])) + 1e-4).astype(f32)
    bias = random.integers(-20000, 20000, shape[0]).astype(np.int32)
    exact = exact_type(weights, 128)
    sums = convolve(image, weights.astype(exact), geometry).astype(np.int64) + bias[:, None, None]
    factors = f32(source.scale) * scales / f32(result.scale)
    found = Requantiser.of(factors, rules, result.low, result.high)(sums)
    top, bottom, left, right = geometry.padding
    wanted = onnx_runtime(
        "QLinearConv",
        {
            "x": stored(image, source)[None], **scale_and_zero(source, "a"), "w": weights,
            "w_scale": scales if per_channel else scales[0], "w_zero": np.zeros(count if per_channel else (), np.int8),
            **scale_and_zero(result, "b"), "bias": bias,
        },
        np.uint8,
        strides=geometry.strides, pads=(top, left, bottom, right), dilations=geometry.dilations, group=geometry.groups,
    )  # fmt: skip
    agrees(stored(found, result), wanted[0], rules)


def test_convolution_beyond_float32_is_computed_in_float64():
    weights = np.full((1, 1200, 1, 1), 127, np.int8)
    assert exact_type(weights, 128) is np.float64 and exact_type(weights[:, :500], 128) is np.float32
    image = np.full((1200, 1, 1), 127, np.int16)
    image[0] = 126
    assert convolve(image, weights.astype(np.float64), Geometry()).item() == 127 * 127 * 1200 - 127


@RULES
def test_matrix_product(rules):
    """A 1x1 convolution is QLinearMatMul."""
    source, result = target_params(4.0, rules), target_params(9.0, rules)
    image = random_levels(2, (32, 1, 50), source)
    weights = np.random.default_rng(3).integers(-127, 128, (20, 32)).astype(np.int8)
    sums = convolve(image, weights[:, :, None, None].astype(f32), Geometry()).astype(np.int64)
    factor = f32(source.scale) * f32(0.005) / f32(result.scale)
    found = Requantiser.of(factor, rules, result.low, result.high)(sums)
    wanted = onnx_runtime(
        "QLinearMatMul",
        {
            "x": stored(image[:, 0].T, source), **scale_and_zero(source, "a"),
            "w": weights.T.copy(), "w_scale": f32(0.005), "w_zero": np.int8(0), **scale_and_zero(result, "b"),
        },
        np.uint8,
    )  # fmt: skip
    agrees(stored(found[:, 0].T, result), wanted, rules)


@RULES
@pytest.mark.parametrize("kind", ["Add", "Mul"])
@pytest.mark.parametrize("second_shape", [(1, 16, 9, 11), (1, 16, 1, 1)])
def test_sum_and_product(rules, kind, second_shape):
    sources, result = (target_params(3.0, rules), target_params(1.7, rules)), target_params(4.1, rules)
    first, second = random_levels(4, (1, 16, 9, 11), sources[0]), random_levels(5, second_shape, sources[1])
    compute = operators.add if kind == "Add" else operators.multiply
    wanted = onnx_runtime(
        f"QLinear{kind}",
        {
            "x1": stored(first, sources[0]), **scale_and_zero(sources[0], "a"),
            "x2": stored(second, sources[1]), **scale_and_zero(sources[1], "b"), **scale_and_zero(result, "c"),
        },
        np.uint8, domain="com.microsoft",
    )  # fmt: skip
    agrees(stored(compute(first, second, sources, result, rules), result), wanted, rules)


@RULES
def test_concat_brings_each_to_the_results_scale(rules):
    sources = (target_params(3.0, rules), target_params(5.0, rules))
    result = target_params(5.0, rules)
    parts = [random_levels(seed, (1, 4, 5, 5), how) for seed, how in enumerate(sources)]
    found = np.concatenate(
        [operators.rescale(part, how, result, rules) for part, how in zip(parts, sources)], axis=1
    )
    wanted = onnx_runtime(
        "QLinearConcat",
        {
            **scale_and_zero(result, "c"), "x1": stored(parts[0], sources[0]), **scale_and_zero(sources[0], "a"),
            "x2": stored(parts[1], sources[1]), **scale_and_zero(sources[1], "b"),
        },
        np.uint8, domain="com.microsoft", axis=1,
    )  # fmt: skip
    agrees(stored(found, result), wanted, rules)
    assert (found[:, 4:] == parts[1]).all()  # the same scale: moved as it is


@RULES
@pytest.mark.parametrize("same_scale", [True, False])
@pytest.mark.parametrize("border", [0, 1])
def test_average_pool(rules, same_scale, border):
    source, result = target_params(3.0, rules), target_params(3.0 if same_scale else 2.2345678, rules)
    image = random_levels(6, (16, 10, 10), source)
    geometry = Geometry((2, 2), (border,) * 4)
    found = operators.average_pool(image, (3, 3), geometry, source, result, rules)
    wanted = onnx_runtime(
        "QLinearAveragePool",
        {"x": stored(image, source)[None], **scale_and_zero(source, "a"), **scale_and_zero(result, "b")},
        np.uint8, domain="com.microsoft", kernel_shape=(3, 3), strides=(2, 2), pads=(border,) * 4,
    )  # fmt: skip
    agrees(stored(found, result), wanted[0], rules)


@RULES
def test_global_average_pool(rules):
    source, result = target_params(3.0, rules), target_params(1.3, rules)
    image = random_levels(8, (64, 7, 9), source)
    found = operators.average_pool(image, (7, 9), Geometry((7, 9)), source, result, rules)
    wanted = onnx_runtime(
        "QLinearGlobalAveragePool",
        {"x": stored(image, source)[None], **scale_and_zero(source, "a"), **scale_and_zero(result, "b")},
        np.uint8, domain="com.microsoft",
    )  # fmt: skip
    agrees(stored(found, result), wanted[0], rules)


def test_max_pool():
    source = target_params(3.0, FIXED)
    image = random_levels(9, (8, 11, 11), source)
    found = operators.max_pool(image, (3, 3), Geometry((2, 2), (1, 1, 1, 1)))
    wanted = onnx_runtime(
        "MaxPool",
        {"x": stored(image, source)[None]},
        np.uint8,
        kernel_shape=(3, 3),
        strides=(2, 2),
        pads=(1,) * 4,
    )
    assert (stored(found, source) == wanted[0]).all()


def test_sigmoid_and_leaky_relu_are_tables():
    source = target_params(6.0, FLOAT)
    result = target_params(1.0, FLOAT)
    levels = np.arange(-128, 128, dtype=np.int16)
    inputs = {"x": stored(levels, source), **scale_and_zero(source, "a"), **scale_and_zero(result, "b")}
    functions = {
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "LeakyRelu": lambda x: np.where(x > 0, x, 0.1 * x),
    }
    for kind, function in functions.items():
        entries = table(function, source, result, "half_to_even")
        more = {"alpha": 0.1} if kind == "LeakyRelu" else {}
        wanted = onnx_runtime(f"QLinear{kind}", inputs, np.uint8, domain="com.microsoft", **more)
        assert (stored(operators.look_up(levels, entries, source), result) == wanted).all(), kind


@pytest.mark.parametrize("function", ["hard_sigmoid", "hard_swish"])
def test_piecewise_tables_by_hand(function):
    # scales of a sixteenth and a hundredth
    source, result = target_params(127 / 16, FIXED), target_params(1.27, FIXED)
    values = {"slope": 1 / 6, "offset": 0.5} if function == "hard_sigmoid" else {}
    entries = table(function_of(function, values), source, result, "half_to_even")
    at = {level: int(entries[level + 128]) for level in (-128, -48, -24, 0, 24, 48, 127)}
    hand = {
        "hard_sigmoid": {-128: 0, -48: 0, -24: 25, 0: 50, 24: 75, 48: 100, 127: 100},
        # -1.5 * 1.5 / 6 = -0.375, half of a level: -37.5 to even; 1.5 * 4.5 / 6 = 1.125; 3 and more are past the end
        "hard_swish": {-128: 0, -48: 0, -24: -38, 0: 0, 24: 112, 48: 127, 127: 127},
    }[function]
    assert at == hand


@pytest.mark.parametrize(
    ("rounding", "wanted"), [("half_to_even", [-2, -2, 0, 0, 2, 2]), ("half_away", [-3, -2, -1, 1, 2, 3])]
)
def test_halves_in_integers_and_in_floats(rounding, wanted):
    sums = np.array([-5, -3, -1, 1, 3, 5])
    for multiplier in (None, MultiplierRule(15), MultiplierRule(31), MultiplierRule(16, "truncate")):
        rules = Rules(Arithmetic("int8", rounding, multiplier))
        assert Requantiser.of(0.5, rules, -128, 127)(sums).tolist() == wanted, multiplier


def test_largest_sums_saturate_without_overflow():
    sums = np.array([2**31 - 1, -(2**31), 2**30])
    assert Requantiser.of(0.9, FIXED, -128, 127)(sums).tolist() == [127, -128, 127]
    assert Requantiser.of(1e-8, FIXED, -128, 127)(sums).tolist() == [21, -21, 11]
    assert Requantiser.of(3.0, FIXED, -128, 127)(np.array([2**31 - 1, 40, -50])).tolist() == [127, 120, -128]


@pytest.mark.parametrize("bits", [15, 31])
def test_a_multiplier_is_the_factor_to_its_bits(bits):
    factors = np.array([0.7, 1e-4, 0.99999999999, 1.5, 2.0**-20])
    made = Multiplier.of(factors, MultiplierRule(bits))
    assert np.allclose(made.number / 2.0**made.shift, factors, rtol=2.0 ** -(bits - 1), atol=0)
    assert (made.number < 2**bits).all() and (made.number >= 2 ** (bits - 1)).all()


TRUNCATED = Rules(Arithmetic("uint8", "half_to_even", MultiplierRule(16, "truncate")))


def test_sixteen_bits_truncated_by_hand():
    # 1/3 = 43690.67 / 2^17; 0.99999 = 65535.34 / 2^16 (to the nearest 65535, too); 1 - 2^-20 would round up to 1;
    # 1 = 32768 / 2^15; 5/3 = 54613.33 / 2^15; 300.7 = 38489.6 / 2^7; 70000 = 35000 * 2, shift 0 after -1.
    factors = np.array([1 / 3, 0.99999, 1 - 2.0**-20, 1.0, 5 / 3, 300.7, 70000])
    made = Multiplier.of(factors, MultiplierRule(16, "truncate"))
    assert made.number.tolist() == [43690, 65535, 65535, 32768, 54613, 38489, 70000]
    assert made.shift.tolist() == [17, 16, 16, 15, 15, 7, 0]
    assert Multiplier.of(factors[:1], MultiplierRule(16)).number.tolist() == [43691]
    # With the shift of the larger factor, as in an addition: 1/3 is 10922.67 / 2^15.
    both = Multiplier.of(np.array([1.0, 1 / 3]), MultiplierRule(16, "truncate"), common=True)
    assert (both.number.tolist(), both.shift.tolist()) == ([32768, 10922], [15, 15])


def test_a_truncated_multiplier_loses_the_ties_above_the_middle():
    """126 and 127 thirds are exact or nearer to a level; 3/2 and -3/2 are ties; 255 * 43690 / 2^17 = 84.9987."""
    third = Requantiser.of(1 / 3, TRUNCATED, -128, 127)
    assert third(np.array([3, -3, 4, -4, 126, -127, 255, 600])).tolist() == [1, -1, 1, -1, 42, -42, 85, 127]
    # 0.3 = 39321.6 / 2^17 is 0.29999542: 5 * 0.3 = 1.5 is a tie of 31 bits' neighbours and below it here.
    near = np.array([5, 15, -5, 25, 35, -35])  # 1.5, 4.5, -1.5, 7.5, 10.5, -10.5
    assert Requantiser.of(0.3, TRUNCATED, -128, 127)(near).tolist() == [1, 4, -1, 7, 10, -10]
    # Exact in 16 bits, so the ties are there, and go to the even level: 0.75 * 2 = 1.5, 0.75 * 6 = 4.5.
    assert Requantiser.of(0.75, TRUNCATED, -128, 127)(np.array([2, 6, -2, -6, 10])).tolist() == [
        2,
        4,
        -2,
        -4,
        8,
    ]


def test_truncated_factors_above_one():
    # 5/3 as 54613 / 2^15 is 1.666656: 3 * that is 4.99997, 75 * that is 124.9992, 77 * that is past the end.
    requantise = Requantiser.of(5 / 3, TRUNCATED, -128, 127)
    assert requantise(np.array([3, -3, 75, 77, -77, 0])).tolist() == [5, -5, 125, 127, -128, 0]
    # 2.5 = 40960 / 2^14: 1 and 3 are ties, 2 and 8.
    assert Requantiser.of(2.5, TRUNCATED, -128, 127)(np.array([1, 3, -1, -3])).tolist() == [2, 8, -2, -8]


def test_a_sum_inside_a_network_is_a_convolution():
    """Weights 233 and 255 in place of 0.0264 and 0.0289: (233 * -128 + 255 * -4) * 0.0289 / 255 / 0.0341 = -102.51."""
    rules = Rules(Arithmetic("uint8", "half_to_even", MultiplierRule(16, "truncate", False), 16, 255))
    first, second = np.array([-128], np.int16), np.array([-4], np.int16)
    *sources, result = (QuantParams(scale, 128, signed=False) for scale in (0.0264, 0.0289, 0.0341))

    def total(rules, **own):
        return int(operators.add(first, second, sources, result, rules, **own)[0])

    assert total(rules) == -102  # exactly -102.49: inputs of the network
    assert total(rules, on_cores=True) == -103
    assert total(rules.kept, on_cores=True) == -102  # every tensor is an output


def test_chips_with_tables_rescale_in_16_bits():
    """40 * 0.0482954 / 0.0858512 is 22.50190, of which 128 + 22.50190 keeps 150.50000 in 16 bits: halves go to even."""
    rules = Rules(Arithmetic("uint8", "half_to_even", None, 16))
    source, result = (QuantParams(scale, 128, signed=False) for scale in (0.0482954, 0.0858512))
    values = np.array([8, 40, -128, 127], np.int16)
    assert operators.rescale(values, source, result, rules).tolist() == [4, 22, -72, 71]
    assert operators.rescale(values, source, result, FLOAT).tolist() == [5, 23, -72, 71]


def test_shaders_compute_in_float32():
    """(-45 * 0.047 / 6 + 0.5) / 0.005 is 29.5 exactly, and below it in float32; so is -125 * 0.031 / 0.05, -77.5."""
    rules = Rules(Arithmetic("uint8", "half_to_even", MultiplierRule(16, "truncate", False), 16, 255))
    assert rules.on_shaders(per_channel=True) and not rules.on_shaders(per_channel=False)
    source, result = (QuantParams(float(np.float32(scale)), 0, narrow=False) for scale in (0.047, 0.005))
    function = function_of("hard_sigmoid", {"slope": 1 / 6})
    assert shader_table(function, source, result, "half_to_even")[128 - 45] == 29
    assert table(function, QuantParams(0.047, 0, narrow=False), result, "half_to_even")[128 - 45] == 30
    first, second = (QuantParams(scale, 0, narrow=False) for scale in (0.031, 0.05))
    levels = np.array([-125], np.int16)
    assert operators.rescale(levels, first, second, rules, on_shaders=True).tolist() == [-77]
    assert operators.rescale(levels, first, second, rules).tolist() == [-78]
