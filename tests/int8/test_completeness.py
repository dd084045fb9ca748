"""An INT8 model with holes is refused, and what is missing is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from picoquant.errors import PicoquantError, WeightsError
from picoquant.int8.completeness import check_int8_model, require_whole
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.program import read_program
from picoquant.quantization.quantize import quantize
from tests.networks.small_net import CONFIG, batches, settings


@pytest.fixture(scope="module")
def int8(small_model, tmp_path_factory):
    """A short quantisation of the small network, and its result."""
    folder = tmp_path_factory.mktemp("int8")
    short = settings(1, eval_iter=1)
    result = quantize(small_model, folder / "out", folder / "work", batches, short, config=CONFIG)
    return folder / "out", result


def edited(out, tmp_path, change):
    """The files with a changed program."""
    program = read_program(out / "model.pdmodel")
    change(program.blocks[0])
    write_program(program, tmp_path / "model.pdmodel")
    return check_int8_model(tmp_path / "model.pdmodel", out / "model.pdiparams")


def stored(out, tmp_path, pick, change):
    """The files with a changed stored value; returns the check and the value's name."""
    model = ProgramModel.load(out)
    name = next(name for name in model.values if pick(name))
    model.write(name, change(model.values[name]))
    model.save(tmp_path)
    return check_int8_model(tmp_path / "model.pdmodel", tmp_path / "model.pdiparams"), name


def test_what_quantisation_writes_is_whole(int8):
    out, result = int8
    check = check_int8_model(out / "model.pdmodel", out / "model.pdiparams")
    assert check.holes == [] and check.int8_weights == 5
    # image, 5 convolutions, 5 biases, 3 ReLU6, a sigmoid, and an identity for each output
    assert check.operators == 5 + 5 + 3 + 1 + 2
    require_whole(check)
    assert result.metrics["fully_quantized"] is True
    noted = json.loads((out / "quantization.json").read_text())["full_check"]
    assert noted["whole"] is True and noted["int8_weights"] == 5


def test_a_result_without_scale_is_named_with_its_operator(int8, tmp_path):
    names = []

    def forget(block):
        op = next(op for op in block.ops if op.type == "sigmoid")
        kept = [a for a in op.attrs if not a.name.endswith("threshold")]
        del op.attrs[:]
        op.attrs.extend(kept)
        names.extend(name for slot in op.outputs for name in slot.arguments)

    check = edited(int8[0], tmp_path, forget)
    assert ("sigmoid", names[0], names[0]) in check.without_scale
    with pytest.raises(PicoquantError, match=f"sigmoid {names[0]} has no scale for {names[0]}"):
        require_whole(check)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_no_scale_is_a_hole(int8, tmp_path, value):
    def spoil(block):
        op = next(op for op in block.ops if op.type == "sigmoid")
        for attribute in op.attrs:
            if attribute.name.endswith("threshold"):
                attribute.f = value

    check = edited(int8[0], tmp_path, spoil)
    assert len(check.bad_scales) == 1 and "is " in check.holes[0]


def test_a_weight_that_is_not_in_whole_numbers_is_named(int8, tmp_path):
    check, name = stored(int8[0], tmp_path, lambda n: n.endswith(".w_0"), lambda value: value + 0.25)
    assert check.not_whole == (name,)


def test_a_weights_scale_of_zero_is_named(int8, tmp_path):
    check, name = stored(
        int8[0], tmp_path, lambda n: n.endswith("@channel_scale"), lambda value: value * np.float32(0)
    )
    assert check.bad_scales == ((name.split("@")[0], 0.0),)


def test_a_convolution_left_in_float_is_a_hole_unless_the_settings_keep_it(small_model, tmp_path):
    chosen = settings(1, quant={"quantize_op_types": ["conv2d"]}, eval_iter=1)
    out = tmp_path / "out"
    quantize(small_model, out, tmp_path / "work", batches, chosen, config=CONFIG)
    files = out / "model.pdmodel", out / "model.pdiparams"
    assert check_int8_model(*files, ("conv2d",)).holes == []
    check = check_int8_model(*files)
    assert len(check.float_operators) == 1 and "weight in float" in check.holes[0]
    kept = check_int8_model(*files, kept=check.float_operators)
    assert kept.holes == [] and kept.kept_float == check.float_operators


def test_tensors_that_pass_values_on_should_have_one_range(int8, tmp_path):
    def widen(block):
        op = next(op for op in block.ops if op.type == "scale")
        for attribute in op.attrs:
            if attribute.name.endswith("threshold"):
                attribute.f *= 2

    check = edited(int8[0], tmp_path, widen)
    assert len(check.several_scales) == 1 and check.holes == []


def test_a_float_model_is_refused(small_model):
    with pytest.raises(WeightsError, match="float model"):
        check_int8_model(small_model / "model.pdmodel", small_model / "model.pdiparams")
