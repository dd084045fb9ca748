"""An INT8 program taken apart."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import WeightsError
from picoquant.int8.paddle.reader import read_network, take_apart
from picoquant.int8.quant_params import SMALLEST_RANGE
from picoquant.paddle_program.edit import batch_of_one
from picoquant.paddle_program.params import read_params
from tests.networks.small_int8 import write_small


def test_operators_and_their_scales(taken_apart, small):
    program, params, _ = taken_apart
    _, operators, learnt = take_apart(program, params, small.model)
    kinds = [operator.op_type for operator in operators.values()]
    assert kinds == ["conv2d"] + ["depthwise_conv2d"] * 2 + ["conv2d"] * 4
    stem = next(iter(operators.values()))
    assert (stem.activation, stem.weight, stem.params.axis) == ("image", "stem.w", 0)
    assert learnt["image"] == 1.0
    np.testing.assert_allclose(stem.scales, params["stem.w@channel_scale"] / 127, rtol=1e-6)
    np.testing.assert_array_equal(stem.integers, params["stem.w"])
    assert stem.integers.dtype == np.int8


def test_network_without_quantisation_is_connected(taken_apart):
    program, _, network = taken_apart
    known = set(network.values) | set(network.graph.inputs)
    for op in network.graph.operators:
        assert "fake_" not in op.op_type
        assert all(name in known for _, name in op.inputs), op.name
        known |= {name for _, name in op.outputs}
    assert any("fake_" in op.type for op in program.blocks[0].ops)  # the original is as it was


def test_batch_norm_goes_into_scales_and_biases(taken_apart):
    """Channel 1 of each batch-norm has a negative factor, channel 2 of the middle one hardly any variance."""
    _, params, network = taken_apart
    assert all(op.op_type != "batch_norm" for op in network.graph.operators)
    stem = network.operators[0]
    factor = params["stem.norm.Scale"] / np.sqrt(params["stem.norm.Variance"] + np.float64(1e-5))
    assert factor[1] < 0
    np.testing.assert_array_equal(stem.integers[1], -params["stem.w"][1])
    np.testing.assert_array_equal(stem.integers[0], params["stem.w"][0])
    np.testing.assert_allclose(stem.scales[:2], np.abs(factor[:2]) * params["stem.w@channel_scale"][:2] / 127)
    shift = params["stem.norm.Bias"] - params["stem.norm.Mean"] * factor
    held = stem.bias_integers * stem.scales * network.tensors["image"].params.scale
    np.testing.assert_allclose(held, shift, atol=0.5 * (stem.scales * (1 / 127)).max())


def test_weights_are_integers_times_the_scale_of_their_channel(taken_apart):
    _, params, network = taken_apart
    operator = next(operator for operator in network.operators if operator.weight == "class0.w")
    scales = params["class0.w@channel_scale"]  # the largest value of each channel, integer 127
    for channel in range(len(scales)):
        expected = params["class0.w"][channel] * scales[channel] / 127
        np.testing.assert_allclose(network.values["class0.w"][channel], expected, rtol=1e-6)
    np.testing.assert_array_equal(network.values[operator.bias], params["class0.b"].reshape(-1))
    assert np.abs(params["class0.w"]).max() > 1  # the values that were passed stay as they are


def test_float_model_is_refused(tmp_path):
    folder = write_small(tmp_path, quantised=False)
    program = batch_of_one(folder.model, (32, 32))
    with pytest.raises(WeightsError, match=r"model\.pdmodel is a float model.*picoquant quantize"):
        read_network(program, read_params(program, folder.params), folder.model)


def changed(program, kind: str, attribute: str, value: int):
    copy = type(program)()
    copy.CopyFrom(program)
    op = next(op for op in copy.blocks[0].ops if op.type == kind)
    next(item for item in op.attrs if item.name == attribute).i = value
    return copy


def test_other_bits_are_refused(taken_apart, small):
    program, params, _ = taken_apart
    four = changed(program, "fake_quantize_moving_average_abs_max", "bit_length", 4)
    with pytest.raises(WeightsError, match="has 4 bits"):
        read_network(four, params, small.model)


def test_weights_that_are_no_levels_are_refused(taken_apart, small):
    program, params, _ = taken_apart
    with pytest.raises(WeightsError, match=r"stem\.w is not in 8-bit levels"):
        read_network(program, {**params, "stem.w": params["stem.w"] * 2}, small.model)


def test_missing_scale_is_named(taken_apart, small):
    program, params, _ = taken_apart
    less = {name: value for name, value in params.items() if name != "image@scale"}
    with pytest.raises(WeightsError, match="image@scale is missing"):
        read_network(program, less, small.model)


def test_a_range_of_zero_is_the_smallest_one(taken_apart, small):
    """Paddle's operators make 0 of every value there; nothing is divided by 0 here."""
    program, params, _ = taken_apart
    silent = read_network(program, {**params, "image@scale": np.zeros(1, np.float32)}, small.model)
    assert silent.ranges["image"] == SMALLEST_RANGE
    stem = silent.operators[0]
    assert np.isfinite(stem.scales).all() and np.isfinite(silent.values[stem.weight]).all()
    held = stem.bias_integers * stem.scales * silent.tensors["image"].params.scale
    np.testing.assert_allclose(held, silent.values[stem.bias].reshape(-1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_range_that_is_none_is_refused(taken_apart, small, value):
    program, params, _ = taken_apart
    scales = {**params, "image@scale": np.array([value], np.float32)}
    with pytest.raises(
        WeightsError, match=rf"tensor image has the range {value:g}: quantise the model again"
    ):
        read_network(program, scales, small.model)


def test_onnx_format_is_refused(taken_apart, small):
    program, params, _ = taken_apart
    copy = type(program)()
    copy.CopyFrom(program)
    copy.blocks[0].ops[1].type = "quantize_linear"
    with pytest.raises(WeightsError, match="onnx_format"):
        read_network(copy, params, small.model)
