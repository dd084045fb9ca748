"""Equalisation and bias correction on small networks with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.int8.operators import quantizable_operators
from picoquant.int8.passes.weights import rounded_weight
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.quantization.engine.simulation import Simulation
from picoquant.quantization.ptq.activation_functions import effective_minimum
from picoquant.quantization.ptq.bias_correction import correct_biases
from picoquant.quantization.ptq.equalisation.equalise import equalise
from tests.networks.small_net import loaded_and_folded
from tests.quantization.ptq.equalisation.measured import equalised, full_integer, measured, ranges_of

CHANNELS = np.array([1000.0, 1.0, 10.0, 100.0], np.float32)


class Uneven(nn.Layer):
    """Convolution whose channels are thousands apart, an activation, what is between, a convolution."""

    def __init__(self, activation, between, depthwise=False):
        super().__init__()
        generator = np.random.RandomState(0)
        self.first = nn.Conv2D(3, 4, 3, padding=1)
        self.first.weight.set_value(
            generator.randn(4, 3, 3, 3).astype("float32") * CHANNELS.reshape(-1, 1, 1, 1)
        )
        self.first.bias.set_value(generator.randn(4).astype("float32") * CHANNELS)
        width = {"concat": 8}.get(between, 4)
        self.last = nn.Conv2D(width, width if depthwise else 2, 1, groups=width if depthwise else 1)
        scale = np.resize(CHANNELS, width).reshape((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1))
        self.last.weight.set_value(generator.randn(*self.last.weight.shape).astype("float32") / scale)
        self.activation, self.between = activation, between

    def forward(self, image):
        x = self.first(image)
        y = self.activation(x) if self.activation else x
        if self.between == "pool":
            y = nn.functional.max_pool2d(y, 2)
        if self.between == "concat":
            y = paddle.concat([y, nn.functional.sigmoid(image)[:, :1].expand([-1, 4, -1, -1])], 1)
        if self.between == "shuffle":
            y = paddle.transpose(paddle.reshape(y, [-1, 2, 2, 8, 8]), [0, 2, 1, 3, 4])
            y = paddle.reshape(y, [-1, 4, 8, 8])
        if self.between == "add":
            y = y + image[:, :1]
        return (self.last(y), y) if self.between == "output" else self.last(y)


@pytest.fixture
def opened(tmp_path):
    """Gives a function: arguments of the network -> loaded and folded model, feed, its outputs."""

    def open_network(*arguments, **changes):
        model = loaded_and_folded(lambda: Uneven(*arguments, **changes), tmp_path, (3, 8, 8))
        feed = {"image": np.random.RandomState(1).rand(2, 3, 8, 8).astype("float32")}
        return model, feed, Simulation(model, {})(feed)[0]

    yield open_network


@pytest.mark.parametrize(
    ("activation", "between", "kind"),
    [
        (None, "", ""),
        (nn.functional.relu, "pool", "relu"),
        (nn.functional.hardswish, "", "hard_swish"),
        (nn.functional.hardswish, "pool", "hard_swish"),
        (nn.functional.hardswish, "concat", "hard_swish"),
        (nn.functional.leaky_relu, "shuffle", "leaky_relu"),
    ],
)
def test_outputs_stay_and_noise_falls(opened, activation, between, kind):
    model, feed, before = opened(activation, between)
    noisy = np.abs(full_integer(model, feed) - before).std()
    done = equalised(model, feed)
    assert [item.activation for item in done] == [kind]
    after = Simulation(model, {})(feed)[0]
    np.testing.assert_allclose(after, before, atol=1e-3 * np.abs(before).max())
    assert np.abs(full_integer(model, feed) - before).std() < noisy / 4
    kinds = [op.type for op in model.operators]
    assert ("hard_swish" in kinds) is False


class Chain(nn.Layer):
    """Two results that share a scale, with channels ten thousand apart, and behind them one with channels 30 apart.

    While either of the two is large, all that rounding costs is so much that nothing else seems to matter.
    """

    def __init__(self):
        super().__init__()
        generator = np.random.RandomState(0)

        def conv(inputs, scale, weight):
            made = nn.Conv2D(inputs, len(scale), 3, padding=1)
            made.weight.set_value((generator.randn(*made.weight.shape) * weight).astype("float32"))
            made.bias.set_value((generator.randn(len(scale)) * scale).astype("float32"))
            return made

        wide, narrow = np.float32([1e4, 1, 30, 300]), np.float32([30, 1, 3, 10])
        column = (-1, 1, 1, 1)
        self.first = conv(3, wide, wide.reshape(column))
        self.second = conv(3, wide / 2, wide.reshape(column) / 2)
        behind = 0.2 / np.concatenate([wide, wide / 2])
        self.third = conv(8, narrow, narrow.reshape(column) * behind.reshape(1, -1, 1, 1))
        self.last = conv(4, np.ones(2), 0.2 / narrow.reshape(1, -1, 1, 1))

    def forward(self, image):
        parts = [nn.functional.hardswish(one(image)) for one in (self.first, self.second)]
        return self.last(nn.functional.hardswish(self.third(paddle.concat(parts, 1))))


def test_what_is_worth_it_goes_by_what_is_left(tmp_path):
    feed = {"image": np.random.RandomState(1).rand(2, 3, 8, 8).astype("float32")}
    model = loaded_and_folded(Chain, tmp_path, (3, 8, 8))
    before = Simulation(model, {})(feed)[0]
    assert [item.activation for item in equalised(model, feed)] == ["hard_swish"] * 3
    after = Simulation(model, {})(feed)[0]
    np.testing.assert_allclose(after, before, atol=1e-3 * np.abs(before).max())
    assert np.abs(full_integer(model, feed) - before).std() < 0.1 * before.std()


class Mild(nn.Layer):
    """A convolution one of whose channels reaches so many times as far as others, hard-swish, and one behind."""

    def __init__(self, times):
        super().__init__()
        generator = np.random.RandomState(0)
        reach = np.float32([times, 1, 1, 1]).reshape(-1, 1, 1, 1)
        self.first, self.last = nn.Conv2D(3, 4, 3, padding=1), nn.Conv2D(4, 2, 3, padding=1)
        self.first.weight.set_value((generator.randn(4, 3, 3, 3) * reach).astype("float32"))
        self.last.weight.set_value(
            (0.2 * generator.randn(2, 4, 3, 3) / reach.reshape(1, -1, 1, 1)).astype("float32")
        )

    def forward(self, image):
        return self.last(nn.functional.hardswish(self.first(image)))


@pytest.mark.parametrize(("times", "symmetric", "written"), [(5, True, 1), (5, False, 0), (8, False, 1)])
def test_with_zero_points_less_is_worth_two_operators_more(tmp_path, times, symmetric, written):
    """The hard-swish has two thirds of the values; it saves 5.5 times what is left, of 8 times as far 14.6 times."""
    feed = {"image": np.random.RandomState(1).rand(2, 3, 8, 8).astype("float32")}
    model = loaded_and_folded(lambda: Mild(times), tmp_path, (3, 8, 8))
    found = equalise(model, *measured(model, feed), symmetric=symmetric)
    assert [item.activation for item in found] == ["hard_swish"] * written


def test_before_a_depthwise_convolution_channels_become_nearly_equal(opened):
    model, feed, _ = opened(nn.functional.relu, "", depthwise=True)
    relu = next(op for op in model.operators if op.type == "relu").output("Out")[0]
    before = ranges_of(model, feed)([relu])[relu]
    name = equalised(model, feed)[0].name
    result = next(op for op in model.operators if f"{name}.equalised" in op.inputs).output("Out")[0]
    after = ranges_of(model, feed)([result])[result]
    assert before.max() / before.min() > 100 and after.max() / after.min() < 5
    assert after.max() == pytest.approx(before.max(), rel=1e-4)  # the tensor keeps its largest value


@pytest.mark.parametrize(
    ("activation", "between"),
    [(nn.functional.relu6, ""), (None, "add"), (None, "output"), (nn.functional.relu, "output")],
)
def test_where_a_factor_cannot_pass_nothing_is_done(opened, activation, between):
    model, feed, before = opened(activation, between)
    assert equalised(model, feed) == []
    np.testing.assert_array_equal(Simulation(model, {})(feed)[0], before)


def test_bias_correction_takes_back_the_mean_shift(opened):
    model, feed, before = opened(nn.functional.relu, "")
    operators = quantizable_operators(model, QuantAwareSettings(weight_bits=2))
    last = operators[-1]
    weights = {last.weight: rounded_weight(model.values[last.weight], last.axis, 2)}

    def shift():
        found = Simulation(model, {}, weights)(feed)[0] - before
        return np.abs(found.mean(axis=(0, 2, 3)))

    uncorrected = shift()
    value = Simulation(model, {}, outputs=[last.activation])(feed)[0]
    assert len(correct_biases(model, [last], {last.activation: value.mean(axis=(0, 2, 3))}, bits=2)) == 1
    assert (shift() < 1e-3 * uncorrected.max() + 1e-4 * np.abs(before).max()).all()
    assert uncorrected.max() > 0.01 * np.abs(before).max()


def test_what_an_equalised_hard_swish_drops_takes_no_levels(opened):
    model, feed, _ = opened(nn.functional.hardswish, "")
    name = equalised(model, feed)[0].name + ".equalised"
    minimum = effective_minimum(model.graph(), model.values, name)
    value = Simulation(model, {}, outputs=[name])(feed)[0]
    below = np.minimum(value, minimum[:, None, None])
    # The product is 0 from the minimum down, and not above it.
    conv = next(op for op in model.operators if name in op.inputs and op.type == "depthwise_conv2d")
    factor = model.values[conv.input("Filter")[0]].reshape(1, -1, 1, 1)
    np.testing.assert_allclose(below * np.clip(factor * below + 3, 0, 6), 0, atol=1e-3 * np.abs(value).max())
    assert (factor[0, :, 0, 0] * minimum == pytest.approx(-3)) and effective_minimum(
        model.graph(), model.values, "image"
    ) is None


def test_an_equalised_tensor_fits_what_it_shares_a_range_with(opened):
    # The other part of the concat is a sigmoid, at most 1: of the large one's scale it would have one level.
    model, feed, _ = opened(nn.functional.hardswish, "concat")
    before = max(np.abs(v).max() for v in tensors_of(model, feed, "concat"))
    equalised(model, feed)
    after = max(np.abs(v).max() for v in tensors_of(model, feed, "concat"))
    assert before > 10_000 and 1 <= after < 100


def tensors_of(model, feed, kind):
    """The results of all operators of a type."""
    names = [op.output("Out")[0] for op in model.operators if op.type == kind]
    return Simulation(model, {}, outputs=names)(feed)


def error_with_one_scale_a_weight(model, feed):
    """Squared error of the output with every convolution's weight on one scale, relative to its variance."""
    exact = Simulation(model, {})(feed)[0]
    weights = {}
    for op in model.operators:
        if op.type in CONVOLUTIONS:
            name = op.input("Filter")[0]
            value = model.values[name]
            scale = np.abs(value).max() / 127
            weights[name] = np.rint(value / scale) * scale
    rounded = Simulation(model, {}, weights)(feed)[0]
    return float(((rounded - exact) ** 2).mean() / exact.var())


def test_weights_with_one_scale_are_made_even_too(opened):
    """Where only errors of weights cost: with a scale a channel the rows that compute a tensor cost nothing."""
    found, plain = {}, {}
    for per_channel in (True, False):
        model, feed, before = opened(nn.functional.relu, "")
        plain = error_with_one_scale_a_weight(model, feed)
        groups, ranges, sensitivity = measured(model, feed)
        of_weights = replace(sensitivity, tensors={}, gates={})
        equalise(model, groups, ranges, of_weights, per_channel)
        after = Simulation(model, {})(feed)[0]
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())
        found[per_channel] = error_with_one_scale_a_weight(model, feed)
    assert found[False] < 0.05 * plain and found[False] < found[True]
