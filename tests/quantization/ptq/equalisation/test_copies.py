"""Copies of channels on small networks with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from paddle import nn

from picoquant.errors import ConfigError
from picoquant.int8.passes.activations import target_tensors
from picoquant.quantization.engine.simulation import Simulation
from picoquant.quantization.ptq.equalisation.copies import OTHERS
from picoquant.quantization.ptq.equalisation.equalise import equalise
from picoquant.quantization.settings import QuantizationSettings
from tests.networks.small_net import loaded_and_folded
from tests.quantization.ptq.equalisation.measured import copied, equalised, full_integer, measured

DEAR = 2  # the channel that the last convolution multiplies by far more than the others


class Dear(nn.Layer):
    """Stem, activation, where asked a depthwise convolution with another, and a convolution that wants one channel."""

    def __init__(self, activation, behind="", depthwise=False):
        super().__init__()
        random = np.random.RandomState(0)
        self.stem = nn.Conv2D(3, 4, 3, padding=1)
        self.stem.weight.set_value(random.rand(*self.stem.weight.shape).astype("float32") / 8)
        self.deep = None
        if depthwise:
            self.deep = nn.Conv2D(4, 4, 3, padding=1, groups=4)
            self.deep.weight.set_value(random.rand(*self.deep.weight.shape).astype("float32") / 4)
        self.last = nn.Conv2D(4, 2, 1)
        wanted = np.float32([0.02, 0.02, 1, 0.02]).reshape(1, -1, 1, 1)
        self.last.weight.set_value(random.randn(2, 4, 1, 1).astype("float32") * wanted)
        self.activation, self.behind = activation, behind

    def forward(self, image):
        y = self.activation(self.stem(image))
        if self.deep is not None:
            y = self.activation(self.deep(y))
        if self.behind == "add":
            y = y + image[:, :1]
        result = self.last(y)
        return result + y.mean(1, keepdim=True) if self.behind == "twice" else result


@pytest.fixture
def opened(tmp_path):
    """Gives a function: arguments of the network -> loaded and folded model, feed, its outputs."""

    def open_network(*arguments, **changes):
        model = loaded_and_folded(lambda: Dear(*arguments, **changes), tmp_path, (3, 16, 16))
        feed = {"image": np.random.RandomState(1).rand(4, 3, 16, 16).astype("float32")}
        return model, feed, Simulation(model, {})(feed)[0]

    yield open_network


def noise_of(model, feed, outputs):
    """What rounding the tensors between image and outputs changes these by."""
    ends = {name for name in target_tensors(model.graph()).names if model.shape(name)[1] in (2, 3)}
    return (full_integer(model, feed, ends) - outputs).std()


@pytest.mark.parametrize(
    ("activation", "depthwise", "left"),
    [
        (nn.functional.relu6, False, 0.4),
        (nn.functional.relu, False, 0.4),
        (nn.functional.relu, True, 0.5),
        # The copies of a gate of 0 to 6 are rounded alike.
        (nn.functional.hardswish, False, 0.75),
        (nn.functional.hardswish, True, 0.75),
    ],
)
def test_outputs_stay_and_noise_falls(opened, activation, depthwise, left):
    model, feed, before = opened(activation, depthwise=depthwise)
    equalised(model, feed)
    noise = noise_of(model, feed, before)
    model, feed, before = opened(activation, depthwise=depthwise)
    (done,), *known = copied(model, feed, 4)
    assert done.copies == {DEAR: 4}
    after = Simulation(model, {})(feed)[0]
    # What 8 bits cannot tell anyway: the copies differ by parts of a level, whose mean is 0.
    assert np.abs(after - before).max() < noise / 3
    convs = [op for op in model.operators if "conv2d" in op.type]
    widths = [model.values[op.input("Filter")[0]].shape[0] for op in convs]
    assert widths == ([7, 7, 2] if depthwise else [7, 2])
    assert [op.attributes["groups"] for op in convs][:-1] == ([1, 7] if depthwise else [1])
    last = model.values[convs[-1].input("Filter")[0]]
    np.testing.assert_array_equal(last[:, 4:], last[:, [DEAR] * 3])
    same_as_measured(known, *measured(model, feed, OTHERS)[1:])
    equalise(model, target_tensors(model.graph()).groups, *known)
    assert noise_of(model, feed, after) < left * noise


def same_as_measured(known, ranges, sensitivity):
    """Ranges and sensitivity that copying gives are those of the network as it is then, but for the small shifts."""
    assert set(ranges) <= set(known[0])
    for name, reach in ranges.items():
        np.testing.assert_allclose(known[0][name], reach, rtol=0.03, atol=0.03)
    for part in ("tensors", "gates", "weights"):
        for name, cost in getattr(sensitivity, part).items():
            np.testing.assert_allclose(getattr(known[1], part)[name], cost, rtol=0.1, atol=1e-6)


@pytest.mark.parametrize("behind", ["add", "twice"])
def test_what_anything_else_uses_is_left_alone(opened, behind):
    model, feed, before = opened(nn.functional.relu, behind)
    assert copied(model, feed, 4)[0] == []
    np.testing.assert_array_equal(Simulation(model, {})(feed)[0], before)


def test_what_is_named_stays_as_it_is(opened):
    model, feed, before = opened(nn.functional.relu)
    relu = next(op for op in model.operators if op.type == "relu").output("Out")[0]
    assert copied(model, feed, 4, {relu})[0] == []
    np.testing.assert_array_equal(Simulation(model, {})(feed)[0], before)


def test_no_more_copies_than_allowed(opened):
    model, feed, _ = opened(nn.functional.relu)
    (done,), *_ = copied(model, feed, 2)
    assert done.copies == {DEAR: 2}


@pytest.mark.parametrize("wrong", [0, 17, 1.5, True, "two"])
def test_a_number_of_copies_that_is_none_is_refused(wrong):
    with pytest.raises(
        ConfigError, match="Quantize.channel_copies: expected a whole number from 1 to 16, found"
    ):
        QuantizationSettings(channel_copies=wrong)
