"""Weights of inputs that never change, taken out where they are the largest."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.export.paddle_export import write_layer
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.settle_dead_channels import settle_dead_channels
from picoquant.quantization.ptq.pipeline import run_passes
from tests.quantization.ptq.states import context_of, load_state

FEEDS = [{"image": np.random.RandomState(seed).rand(2, 1, 8, 8).astype("float32")} for seed in range(4)]


class Channels(nn.Layer):
    """Four channels `slope * image + offset`, an activation, a second convolution; images are 0 to 1."""

    def __init__(self, activation, slopes, offsets, weights, padding=0, dense=False, size=3):
        super().__init__()
        self.first = nn.Conv2D(1, 4, 1)
        self.first.weight.set_value(np.float32(slopes).reshape(4, 1, 1, 1))
        self.first.bias.set_value(np.float32(offsets))
        self.second = nn.Conv2D(4, 4, size, padding=padding, groups=1 if dense else 4)
        shape = (1, 4, 1, 1) if dense else (4, 1, 1, 1)
        spread = np.linspace(0.5, 1, size * size, dtype=np.float32).reshape(1, 1, size, size)
        values = np.float32(weights).reshape(shape) * spread * np.ones((4, *self.second.weight.shape[1:]))
        self.second.weight.set_value(values.astype(np.float32))
        self.second.bias.set_value(np.float32([1, 2, 3, 4]))
        self.activation = activation

    def forward(self, image):
        return self.second(self.activation(self.first(image)))


@pytest.fixture
def settled(tmp_path, values_of):
    """`settled(*Channels' arguments)`: the state, its second weight before and after, outputs before and after."""
    model = tmp_path / "exported"

    def run(*arguments, weight_scales="channel_wise_abs_max", **own):
        with paddle.utils.unique_name.guard():
            network = Channels(*arguments, **own)
            network.eval()
            spec = [paddle.static.InputSpec([-1, 1, 8, 8], "float32", "image")]
            write_layer(network, spec, model)
        quant = {"weight_quantize_type": weight_scales}
        state = load_state(context_of(model, tmp_path, lambda: iter(FEEDS[:2]), quant))
        state = run_passes((fold_batch_norm,), state)
        convs = [op for op in state.model.graph().operators if "conv2d" in op.op_type]
        name = convs[-1].input("Filter0")
        before = state.model.values[name].copy()
        outputs = [values_of(state, [], feed)[0] for feed in FEEDS]
        state = run_passes((settle_dead_channels,), state)
        after = [values_of(state, [], feed)[0] for feed in FEEDS]
        return state, before, state.model.values[name], outputs, after

    yield run


relu, relu6, hard_swish = nn.functional.relu, nn.functional.relu6, nn.functional.hardswish


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("activation", [relu, relu6])
def test_a_channel_that_is_off_sets_no_range(settled, activation, padding, caplog):
    caplog.set_level("INFO", logger="picoquant")
    # Channel 1 is -5 to -4 before the activation: always 0 behind it.
    state, before, weight, outputs, after = settled(
        activation, [1, 1, 1, 1], [0, -5, 0, 0], [1, 800, 2, 1], padding
    )
    assert state.settled == 1
    assert np.abs(before).max() == 800 and np.abs(weight).max() == 2
    assert (weight[1] == 0).all() and (weight[[0, 2, 3]] == before[[0, 2, 3]]).all()
    for old, new in zip(outputs, after):  # two of the images were not calibrated with
        np.testing.assert_array_equal(new, old)
    assert "1 channels of 1 convolutions never change" in caplog.text


def test_an_upper_end_goes_into_the_bias_where_there_is_no_border(settled):
    # Channel 2 is 9 to 10 before ReLU6, so 6 behind it; nine weights from 0.5 to 1 add up to 6.75.
    arguments = (relu6, [1, 1, 1, 1], [0, 0, 9, 0], [1, 1, 100, 1])
    state, _, weight, outputs, after = settled(*arguments)
    assert state.settled == 1 and (weight[2] == 0).all()
    assert after[0][0, 2, 3, 3] == pytest.approx(6 * 675 + 3)
    np.testing.assert_allclose(after[3], outputs[3], rtol=1e-6)


def test_an_upper_end_beside_a_border_is_left(settled):
    state, before, weight, *_ = settled(relu6, [1, 1, 1, 1], [0, 0, 9, 0], [1, 1, 100, 1], padding=1)
    assert state.settled == 0
    np.testing.assert_array_equal(weight, before)


def test_a_dense_convolution_loses_the_column(settled):
    # Channels 0 (always 0) and 3 (always 6, in all four results): 40 and 50 are larger than twice 2.
    arguments = (relu6, [1, 1, 1, 1], [-4, 0, 0, 9], [40, 2, 1, 50])
    state, before, weight, outputs, after = settled(*arguments, dense=True, size=1)
    assert state.settled == 2
    assert (weight[:, [0, 3]] == 0).all() and (weight[:, 1:3] == before[:, 1:3]).all()
    for old, new in zip(outputs, after):
        np.testing.assert_allclose(new, old, rtol=1e-6)


def test_hard_swish_is_off_below_minus_three(settled):
    state, _, weight, outputs, after = settled(hard_swish, [1, 1, 1, 1], [0, -5, 0, 0], [1, 800, 2, 1])
    assert state.settled == 1 and (weight[1] == 0).all()
    np.testing.assert_array_equal(after[3], outputs[3])


@pytest.mark.parametrize(
    ("scales", "dense", "weight", "settled_channels"),
    [
        ("abs_max", False, 800, 1),
        ("abs_max", False, 30, 0),  # 15 times the others': it takes no more bits than they keep
        ("channel_wise_abs_max", False, 800, 0),  # has a scale of its own
        ("channel_wise_abs_max", True, 800, 1),  # has not: a scale is of a result's weights
    ],
)
def test_a_channel_that_is_hardly_off_is_taken_out_where_the_others_would_be_lost(
    settled, scales, dense, weight, settled_channels
):
    """It is off by 0.01 where it varies by 1."""
    arguments = (relu6, [1, 1, 1, 1], [0, -1.01, 0, 0], [1, weight, 2, 1])
    state, _, after, *_ = settled(*arguments, dense=dense, size=1 if dense else 3, weight_scales=scales)
    assert state.settled == settled_channels
    assert (np.abs(after).max() > 10) == (not settled_channels)


@pytest.mark.parametrize(
    ("slopes", "offsets", "weights"),
    [
        ([1, 1, 1, 1], [0, -0.5, 0, 0], [1, 800, 2, 1]),  # it is on, for the brighter half
        (
            [1, 1, 1, 1],
            [0, -1.01, 0, 0],
            [1, 800, 2, 1],
        ),  # off by 0.01 where it varies by 1: a brighter image wakes it
        ([1, 1, 1, 1], [0, -5, 0, 0], [1, 3.9, 2, 1]),  # off, but its weight takes less than a bit
        (
            [0, 1, 1, 1],
            [0.5, 0, 0, 0],
            [800, 1, 2, 1],
        ),  # constant, but no end of ReLU6: it is not switched off
        ([1, 1, 1, 1], [-5, -5, -5, -5], [1, 800, 2, 1]),  # nothing is left that the range would be for
    ],
)
def test_what_is_left(settled, slopes, offsets, weights):
    state, before, weight, *_ = settled(relu6, slopes, offsets, weights)
    assert state.settled == 0
    np.testing.assert_array_equal(weight, before)
