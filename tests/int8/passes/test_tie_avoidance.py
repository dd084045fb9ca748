"""Scales that keep results away from the middle between two levels; Paddle and ONNX Runtime give the same integers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import paddle
import pytest

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.qdq import make_onnx, with_every_tensor
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.source import Source
from picoquant.export.paddle_export import write_layer
from picoquant.int8.build import Int8Source, build_network
from picoquant.int8.fake_quant_run import load_source, save_full_integer_simulation
from picoquant.int8.functions import function_of
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.paddle.writer import write_lite_model
from picoquant.int8.passes.activations import target_tensors, unified_ranges
from picoquant.int8.passes.gate_scales import gate_ranges, gated_tensors
from picoquant.int8.passes.tie_avoidance import (
    Product,
    Table,
    largest_middle,
    products_of,
    tie_free_factor,
    tie_free_ranges,
    tie_free_scales,
)
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.npu.simulation.arithmetic import Multiplier, Requantiser
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import read_program
from picoquant.targets.integer_rules import Arithmetic, MultiplierRule, Rules
from tests.networks.quick_int8 import exported
from tests.networks.ranges import measured_ranges


@pytest.mark.parametrize("factor", [2e-5, 4.9e-4, 1 / 1234, 0.007, 0.5, 1.0, 3.3])
def test_no_whole_number_lies_near_the_middle(factor):
    free = float(tie_free_factor(np.array(factor)))
    assert free == pytest.approx(factor, rel=1 / 1300)
    exact = Fraction(free).limit_denominator(1_000_000)
    assert float(exact) == free and exact.denominator % 2 == 1
    # The whole numbers next to each middle between two levels, exactly: at least 1 / (2 d) of a level away.
    for level in range(128):
        middle = Fraction(2 * level + 1, 2)
        below = middle // exact
        assert min(abs(number * exact - middle) for number in (below, below + 1)) >= Fraction(
            1, 2 * exact.denominator
        )


@pytest.mark.parametrize("factor", [0.0123, 0.057, 0.31, 0.5, 1.0, 1.9, 3.3])
def test_sixteen_bits_truncated_give_the_same_levels(factor):
    """The whole numbers next to each middle, rounded with the exact factor, 31 bits, and 16 bits truncated."""
    free = tie_free_factor(np.array([factor]))
    exact = Fraction(float(free[0])).limit_denominator(1_000_000)
    middles = [Fraction(2 * level + 1, 2) for level in range(-128, 127)]
    sums = np.array([middle // exact + side for middle in middles for side in (0, 1)])
    wanted = [round(int(number) * exact) for number in sums]
    for scale in (1.0, 1 - 2e-7, 1 + 2e-7):  # what three scales in float32 make of it
        for multiplier in (MultiplierRule(31), MultiplierRule(16, "truncate"), None):
            rules = Rules(Arithmetic("uint8", "half_to_even", multiplier))
            found = Requantiser.of(free * scale, rules, -200, 200)(sums)
            assert found.tolist() == wanted, (scale, multiplier)


def test_factors_that_sixteen_bits_cannot_hold_lose_little():
    """Of a factor that is not chosen 16 bits leave off up to 1 in 32,768, on average half of that."""
    factors = np.exp(np.random.RandomState(0).uniform(np.log(1e-6), np.log(4), 2000))
    free = tie_free_factor(factors)
    np.testing.assert_allclose(free, factors, rtol=1 / 1300)
    kept = Multiplier.of(free, MultiplierRule(16, "truncate"))
    lost = 1 - kept.number / 2.0**kept.shift / free
    assert lost.min() >= 0 and np.quantile(lost, 0.95) < 6e-6 and np.median(lost) < 2e-6
    before = Multiplier.of(factors, MultiplierRule(16, "truncate"))
    assert np.median(1 - before.number / 2.0**before.shift / factors) > 5 * np.median(lost)


def test_scales_of_a_weight():
    scales = np.float32([0.001, 0.02, 1e-8])
    free = tie_free_scales(scales, input_step=0.05, result_step=0.03)
    np.testing.assert_allclose(free, scales, rtol=1 / 1300)
    # 0.001 * 0.05 / 0.03 = 1 / 600 and 1 / 30 become fractions with an odd divisor.
    for scale in free[:2]:
        exact = Fraction(float(0.05 / 0.03 * scale)).limit_denominator(100_000)
        assert exact.denominator % 2 == 1 and float(exact) == pytest.approx(0.05 / 0.03 * scale, rel=1e-9)


def test_ranges_of_means_and_products():
    ranges = {"map": 6.0, "mean": 6.0, "gate": 1.0, "scaled": 5.0, "beside": 5.0}
    products = [Product("mean", ("map",), 100), Product("scaled", ("map", "gate")), Product("x", ("y",), 4)]
    free = tie_free_ranges(ranges, products, [("map", "mean"), ("scaled", "beside"), ("gate",)])
    assert free["map"] == 6.0 and free["gate"] == 1.0 and set(free) == set(ranges)
    # The mean's factor is its map's range by its own, by 100; the product's 6 * 1 / (127 * 5).
    for factor, wanted in ((6 / (100 * free["mean"]), 0.01), (6 / (127 * free["scaled"]), 6 / 635)):
        exact = Fraction(factor).limit_denominator(100_000)
        assert exact.denominator % 2 == 1 and float(exact) == pytest.approx(factor, rel=1e-9)
        assert factor == pytest.approx(wanted, rel=1 / 1300)
    assert free["beside"] == free["scaled"] != 5.0
    dead = {**ranges, "gate": 0.0, "mean": 0.0}
    assert tie_free_ranges(dead, products, []) == dead


def test_products_and_means_of_a_program(tmp_path):
    class Network(paddle.nn.Layer):
        def forward(self, image):
            pool = paddle.nn.functional.avg_pool2d
            gated = image * paddle.nn.functional.sigmoid(paddle.nn.functional.adaptive_avg_pool2d(image, 1))
            return pool(gated, 3), pool(gated, 2), pool(gated, 2, padding=1), gated * 2.0

    with paddle.utils.unique_name.guard():
        spec = [paddle.static.InputSpec([None, 3, 6, 12], "float32", "image")]
        network = Network()
        network.eval()
        write_layer(network, spec, tmp_path)
    found = products_of(read_graph(read_program(tmp_path / "model.pdmodel")))
    mean, sigmoid, gated, pooled = found
    assert (mean.factors, mean.count, gated.count, pooled.count) == (("image",), 72, 1, 4)
    assert sigmoid.source == mean.result and sigmoid.function(np.float32([0.0])) == 0.5
    assert set(gated.factors) == {"image", sigmoid.result} and pooled.factors == (gated.result,)


def test_a_hard_sigmoid_lies_on_no_middle():
    """From -3 to 3 in 127 steps its results are `k / 2 + 63.5` levels: on the middle for every even `k`."""
    function = function_of("hard_sigmoid", {"slope": 1 / 6, "offset": 0.5})
    ranges = {"x": 3.0, "gate": 1.0, "beside": 1.0}
    free = tie_free_ranges(ranges, [Table("gate", "x", function)], [("gate", "beside")])
    assert free["beside"] == free["gate"] == pytest.approx(1.0, rel=1 / 1300) and free["x"] == 3.0
    levels = function(np.arange(-127, 128) * 3 / 127) / free["gate"] * 127
    inside = levels[levels < 127]
    assert np.abs(inside % 1 - 0.5).min() > 1 / 4096
    # Nothing to do: a range stays. A group with a product goes by the product.
    assert tie_free_ranges(free, [Table("gate", "x", function)], []) == free
    both = [Product("beside", ("x", "x")), Table("gate", "x", function)]
    assert tie_free_ranges(ranges, both, [("gate", "beside")]) == tie_free_ranges(
        ranges, both[:1], [("gate", "beside")]
    )


@pytest.mark.parametrize("name", ["picodet_s_416_coco_npu", "picodet_s_320_coco_lcnet"])
def test_paddle_and_onnxruntime_give_the_same_integers(tmp_path, name):
    """All the way through a network: one level that differs in an early layer would be seen in every output.

    The gates of hard-swishes are Clips of bytes, also in a package's ONNX file, which has these integers, too, then.
    """
    from picoquant.backends.paddle.runtime import open_predictor

    model = exported(f"{name}.yml", tmp_path / "fp32")
    random = np.random.RandomState(1)
    batch = {"image": random.rand(1, 3, 64, 64).astype(np.float32)}
    settings = QuantAwareSettings()
    fold_folder(model.path)
    loaded = ProgramModel.load(model.path)
    groups = target_tensors(loaded.graph()).groups
    ranges = unified_ranges(measured_ranges(loaded, batch), groups)
    # Less than the largest values, so that every tensor is limited somewhere.
    ranges = {name: 0.8 * top for name, top in ranges.items()}
    gated = gated_tensors(loaded.graph())
    ranges.update((name, max(ranges[name], 3.1)) for name in gated)  # a trained network's gates close
    ranges, _ = gate_ranges(ranges, gated, groups)
    ranges = tie_free_ranges(ranges, products_of(loaded.graph()), groups)
    operators = quantizable_operators(loaded, settings)
    source = Int8Source(model.path, {}, ranges, operators, settings)
    write_lite_model(build_network(source), tmp_path / "int8")
    loaded = load_source(source)
    simulated = save_full_integer_simulation(
        build_network(source), loaded, tmp_path / "simulated", model.config
    )
    folder = ModelFolder.open(tmp_path / "int8", config=model.config)
    made = make_onnx(Source(folder).network, exact=True)
    gates = [node for node in made.graph.node if node.output[0].endswith(".gate.uint8")]
    assert len(gates) == len(gated)
    write_onnx(made, tmp_path / "int8.onnx")
    write_onnx(make_onnx(Source(folder).network), tmp_path / "packaged.onnx")
    write_onnx(with_every_tensor(made, Source(folder).network), tmp_path / "whole.onnx")
    pairs = [
        (OnnxPredictor(tmp_path / "int8.onnx"), open_predictor(folder)),
        (OnnxPredictor(tmp_path / "packaged.onnx"), open_predictor(folder)),
        (OnnxPredictor(tmp_path / "whole.onnx"), open_predictor(simulated)),
    ]
    for _ in range(4):
        image = {"image": random.rand(1, 3, 64, 64).astype(np.float32)}
        for onnx_runtime, paddles in pairs:
            got = paddles(image)
            for theirs, ours in zip(onnx_runtime(image), got):
                np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
        assert sum(len(np.unique(one)) for one in got) > 50


def test_zero_points_move_levels_not_middles():
    """A hard sigmoid of 256 levels from -4, into 256 levels from 0; products and means of up to 255 levels a side."""
    function = function_of("hard_sigmoid", {"slope": 1 / 6, "offset": 0.5})
    # Steps of 1 / 17 from -4 on; the result's 255 steps are from 0 to 1, so that every second result is on a middle.
    ranges, zeros = {"x": 127 / 17, "gate": 127 / 255}, {"x": 68 - 128, "gate": -128}
    free = tie_free_ranges(ranges, [Table("gate", "x", function)], [], 8, zeros)
    assert free["gate"] != ranges["gate"] and free["gate"] == pytest.approx(ranges["gate"], rel=1 / 1300)
    places = function(np.arange(-68, 188) / 17) / (free["gate"] / 127)
    inside = places[(places > 0) & (places < 255)]
    assert np.abs(inside % 1 - 0.5).min() > 1 / 4096 and len(inside) > 90
    before = function(np.arange(-68, 188) / 17) * 255
    assert np.abs(before % 1 - 0.5).min() < 1e-9

    ranges = {"map": 3.0, "gate": 0.5, "scaled": 2.5}
    free = tie_free_ranges(ranges, [Product("scaled", ("map", "gate"))], [], 8, dict.fromkeys(ranges, -128))
    factor = Fraction(3 * 0.5 / (127 * free["scaled"])).limit_denominator(100_000)
    assert factor.denominator % 2 == 1
    numbers = np.arange(0, 255 * 255 + 1)
    results = numbers * (3 * 0.5 / (127 * free["scaled"]))
    assert np.abs(results[results < 255] % 1 - 0.5).min() > 255.5 * 4e-7


def test_the_farthest_middle():
    assert largest_middle(QuantParams.symmetric(3.0)) == 127.5
    assert largest_middle(QuantParams.of_range(3.0, zero_point=-128)) == 255.5
    assert largest_middle(QuantParams.of_range(3.0, zero_point=20)) == 148.5
