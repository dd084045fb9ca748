"""An INT8 program taken apart."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import WeightsError
from picoquant.int8.paddle_reader import float_weights, read_quantised
from picoquant.paddle_program.edit import batch_of_one
from picoquant.paddle_program.params import read_params
from tests.networks.small_int8 import write_small


def test_operators_and_their_scales(taken_apart):
    program, params, quantised = taken_apart
    kinds = [operator.kind for operator in quantised.operators]
    assert kinds == ["conv2d"] + ["depthwise_conv2d"] * 2 + ["conv2d"] * 4
    stem = quantised.operators[0]
    assert (stem.activation, stem.weight, stem.axis) == ("image", "stem.w", 0)
    # The image's range 1.0 is 127 levels; so is each channel's.
    assert stem.activation_scale == pytest.approx(1 / 127)
    np.testing.assert_allclose(stem.weight_scales, params["stem.w@channel_scale"] / 127, rtol=1e-6)
    np.testing.assert_array_equal(stem.levels, params["stem.w"])
    assert stem.levels.dtype == np.int8


def test_network_without_quantisation_is_connected(taken_apart):
    program, _, quantised = taken_apart
    ops = quantised.network.blocks[0].ops
    assert not any("fake_" in op.type for op in ops)
    known = set(taken_apart[1]) | {"feed"}
    for op in ops:
        assert all(name in known for slot in op.inputs for name in slot.arguments), op.type
        known |= {name for slot in op.outputs for name in slot.arguments}
    assert any("fake_" in op.type for op in program.blocks[0].ops)  # the original is as it was


def test_weights_scaled_back_are_levels_times_the_scale_of_their_channel(taken_apart):
    _, params, quantised = taken_apart
    values = float_weights(quantised, params)
    scales = params["stem.w@channel_scale"]  # the largest value of each channel, 127 levels
    for channel in range(len(scales)):
        expected = params["stem.w"][channel] * scales[channel] / 127
        np.testing.assert_allclose(values["stem.w"][channel], expected, rtol=1e-6)
    assert np.array_equal(values["class0.b"], params["class0.b"])
    assert np.abs(params["stem.w"]).max() > 1 > np.abs(values["stem.w"]).max()  # the given stay as they are


def test_float_model_is_refused(tmp_path):
    folder = write_small(tmp_path, quantised=False)
    program = batch_of_one(folder.model, (32, 32))
    with pytest.raises(WeightsError, match=r"model\.pdmodel is a float model.*picoquant quantize"):
        read_quantised(program, read_params(program, folder.params), folder.model)


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
        read_quantised(four, params, small.model)


def test_weights_that_are_no_levels_are_refused(taken_apart, small):
    program, params, _ = taken_apart
    with pytest.raises(WeightsError, match=r"stem\.w is not in 8-bit levels"):
        read_quantised(program, {**params, "stem.w": params["stem.w"] * 2}, small.model)


def test_missing_scale_is_named(taken_apart, small):
    program, params, _ = taken_apart
    less = {name: value for name, value in params.items() if name != "image@scale"}
    with pytest.raises(WeightsError, match="image@scale is missing"):
        read_quantised(program, less, small.model)


def test_onnx_format_is_refused(taken_apart, small):
    program, params, _ = taken_apart
    copy = type(program)()
    copy.CopyFrom(program)
    copy.blocks[0].ops[1].type = "quantize_linear"
    with pytest.raises(WeightsError, match="onnx_format"):
        read_quantised(copy, params, small.model)
