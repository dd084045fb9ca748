"""Weights rounded by the error of the results: known optima, Paddle's own convolution, the files that are written."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.int8.operators import quantizable_operators
from picoquant.int8.passes.weights import quantise_weight, rounded_weight
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program
from picoquant.quantization.engine.simulation import Simulation
from picoquant.quantization.ptq.adaptive_rounding import Hessian, best_quantised_values, round_adaptively
from picoquant.quantization.quantize import quantize
from picoquant.quantization.score import Score
from picoquant.quantization.settings import QuantizationSettings
from tests.networks.small_net import CONFIG, batches, loaded_and_folded, settings

NONE = np.zeros((1, 1, 1), bool)


def cost(levels, exact, hessian):
    return np.einsum("gri,gij,grj->gr", levels - exact, hessian, levels - exact)


def test_two_inputs_that_are_always_equal():
    # 0.4 x + 0.4 x = 0.8 x: rounding each to nearest gives 0, one of them rounded up gives 1 x.
    exact, hessian = np.full((1, 1, 2), 0.4), np.ones((1, 2, 2))
    assert sorted(best_quantised_values(exact, hessian, NONE)[0, 0]) == [0, 1]


def test_opposite_inputs_and_a_fixed_weight():
    # 3.4 x - 1.3 x + 0.4 y, x and y never together; the first weight must be 3: then 3 - 1 is nearest to 2.1.
    hessian = np.array([[[1.0, -1, 0], [-1, 1, 0], [0, 0, 1]]])
    exact = np.array([[[3.4, 1.3, 0.4]]])
    fixed = np.array([[[True, False, False]]])
    np.testing.assert_array_equal(best_quantised_values(exact, hessian, fixed), [[[3, 1, 0]]])


def test_uncorrelated_inputs_are_rounded_to_nearest():
    exact = np.random.RandomState(0).uniform(-140, 140, (2, 3, 4))
    expected = np.clip(np.rint(exact), -127, 127)
    np.testing.assert_array_equal(best_quantised_values(exact, np.stack([np.eye(4)] * 2), NONE), expected)


def test_nearly_as_good_as_trying_all_levels():
    """64 rows of 5 correlated inputs; all 3^5 neighbours of the nearest levels are tried for the least cost."""
    generator = np.random.RandomState(1)
    exact = generator.uniform(-20, 20, (2, 32, 5))
    seen = generator.randn(2, 50, 5) + 3 * generator.randn(2, 50, 1)
    hessian = np.matmul(seen.transpose(0, 2, 1), seen) / 50
    nearest = np.rint(exact)
    tried = [cost(nearest + step, exact, hessian) for step in itertools.product((-1, 0, 1), repeat=5)]
    least, plain = np.min(tried, axis=0), cost(nearest, exact, hessian)
    found = cost(best_quantised_values(exact, hessian, NONE), exact, hessian)
    assert (found <= plain * (1 + 1e-12)).all()
    assert least.mean() < 0.5 * plain.mean()
    assert found.mean() < 1.1 * least.mean()


def test_an_input_that_is_always_0_changes_nothing():
    exact = np.array([[[0.4, 0.4, 7.6]]])
    np.testing.assert_array_equal(best_quantised_values(exact, np.zeros((1, 3, 3)), NONE), [[[0, 0, 8]]])


CONVS = {
    "plain": {"in_channels": 4, "out_channels": 6, "kernel_size": 3},
    "stride and padding": {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 1},
    "grouped": {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {
        "in_channels": 4,
        "out_channels": 4,
        "kernel_size": 5,
        "groups": 4,
        "padding": 2,
        "stride": 2,
    },
    "dilated": {"in_channels": 4, "out_channels": 2, "kernel_size": 3, "dilation": 2, "padding": [1, 2]},
    "four paddings": {"in_channels": 4, "out_channels": 2, "kernel_size": (2, 3), "padding": [0, 1, 2, 1]},
    "same": {"in_channels": 4, "out_channels": 2, "kernel_size": 3, "stride": 2, "padding": "SAME"},
    "valid": {"in_channels": 4, "out_channels": 2, "kernel_size": (1, 3), "padding": "VALID"},
}


@pytest.fixture
def opened(tmp_path):
    """Gives a function: layers -> loaded and folded model, its operators."""

    def open_layers(*layers, shape=(4, 9, 10)):
        def network():
            return paddle.nn.Sequential(*[layer() for layer in layers])

        model = loaded_and_folded(network, tmp_path, shape)
        return model, quantizable_operators(model, QuantAwareSettings())

    yield open_layers


@pytest.mark.parametrize("kind", CONVS)
def test_moments_give_the_results_sum_of_squares(opened, kind):
    """`w H w` of each output channel is the sum of squares that Paddle's own convolution computes."""
    model, (operator,) = opened(lambda: paddle.nn.Conv2D(**CONVS[kind], bias_attr=False))
    image = np.random.RandomState(0).randint(-127, 128, (2, 4, 9, 10)).astype("float32")
    hessian = Hessian(model.graph(), [operator])
    hessian.add(hessian.inputs[0], image, QuantParams.symmetric(127.0))
    result = Simulation(model, {})({"image": image})[0]
    weight = model.values[operator.weight]
    sums = hessian.by_weight[operator.weight]
    rows = weight.reshape(len(sums), len(weight) // len(sums), -1)
    found = np.einsum("gri,gij,grj->gr", rows, sums, rows).reshape(-1)
    np.testing.assert_allclose(found, (result.astype(np.float64) ** 2).sum((0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("axis", ["channel_wise_abs_max", "abs_max"])
def test_error_of_each_convolution_falls_and_ranges_stay(opened, axis):
    """A smooth image makes neighbouring inputs alike: there nearest rounding is far from the best."""
    layers = (
        CONVS["stride and padding"],
        {**CONVS["depthwise"], "in_channels": 6, "out_channels": 6, "groups": 6},
    )
    model, _ = opened(*[lambda conv=conv: paddle.nn.Conv2D(**conv) for conv in layers])
    quant = QuantAwareSettings(weight_quantize_type=axis, weight_bits=4)
    operators = quantizable_operators(model, quant)
    ramp = np.linspace(0, 1, 10) + np.linspace(0, 2, 9)[:, None]
    image = (ramp + 0.1 * np.random.RandomState(0).rand(3, 4, 9, 10)).astype("float32")
    hessian = Hessian(model.graph(), operators)
    values = dict(zip(hessian.inputs, Simulation(model, {}, outputs=hessian.inputs)({"image": image})))
    for name, value in values.items():
        hessian.add(name, value, QuantParams.symmetric(np.abs(value).max()))
    before = {operator.weight: model.values[operator.weight] for operator in operators}
    after = round_adaptively(operators, before, hessian.by_weight, 4)
    assert set(after) == set(before)
    for operator in operators:
        exact, name = before[operator.weight], operator.weight
        levels, scales = quantise_weight(after[name], operator.axis, 4)
        assert np.abs(levels).max() <= 7
        np.testing.assert_array_equal(scales, quantise_weight(exact, operator.axis, 4)[1])
        sums = hessian.by_weight[name]
        errors = []
        for weight in (exact, after[name]):
            rows = (rounded_weight(weight, operator.axis, 4) - exact).reshape(
                len(sums), len(exact) // len(sums), -1
            )
            errors.append(np.einsum("gri,gij,grj->gr", rows, sums, rows))
        assert (errors[1] <= errors[0] * (1 + 1e-4)).all()
        assert errors[1].sum() < 0.5 * errors[0].sum()


def weights_in(folder):
    return read_params(read_program(folder / "model.pdmodel"), folder / "model.pdiparams")


@pytest.fixture(scope="module")
def ptq(small_model, tmp_path_factory):
    """Folders of the small network by rounding, all else equal, with the metrics."""
    made = {}
    for rounding in ("nearest", "reconstructed"):
        folder = tmp_path_factory.mktemp(rounding)
        own = QuantizationSettings(method="ptq", rounding=rounding, bias_correction=False)
        chosen = replace(settings(), quantization=own)
        result = quantize(small_model, folder / "out", folder / "work", batches, chosen, config=CONFIG)
        made[rounding] = folder / "out", result.metrics
    return made


def test_files_are_int8_with_the_same_ranges(ptq):
    nearest, other = (weights_in(ptq[name][0]) for name in ("nearest", "reconstructed"))
    assert ptq["reconstructed"][1]["fully_quantized"] and nearest.keys() == other.keys()
    changed = 0
    for name, value in nearest.items():
        if name.endswith(".w_0"):
            assert (other[name] == np.rint(other[name])).all() and np.abs(other[name]).max() == 127
            assert np.abs(other[name] - value).max() <= 4
            changed += int((other[name] != value).sum())
        else:  # ranges and biases
            np.testing.assert_array_equal(other[name], value)
    assert changed > 10


def test_training_starts_from_the_rounded_weights(small_model, ptq, tmp_path):
    own = QuantizationSettings(rounding="reconstructed", bias_correction=False)
    chosen = replace(settings(1, eval_iter=1), quantization=own)
    places = small_model, tmp_path / "out", tmp_path / "work"
    scores = iter([0.5, 0.4, 0.5])  # the start stays the best; every tensor in INT8
    result = quantize(*places, batches, chosen, lambda predict: Score(next(scores)), config=CONFIG)
    assert result.metrics["best_step"] == 0
    expected = weights_in(ptq["reconstructed"][0])
    for name, value in weights_in(tmp_path / "out").items():
        if name.endswith(".w_0"):
            np.testing.assert_array_equal(value, expected[name])
