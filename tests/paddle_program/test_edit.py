"""Programs edited as they are, and their stored values."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import WeightsError
from picoquant.export.paddle_export import write_layer
from picoquant.paddle_program.edit import batch_of_one, write_program
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params, stored_variables, write_params
from picoquant.utils.paddle_version.differences import holds_tensor, tensor_of


def shapes(program):
    return {
        variable.name: list(tensor_of(variable.type).dims)
        for variable in program.blocks[0].vars
        if holds_tensor(variable.type)
    }


def test_every_shape_is_known_for_one_image(taken_apart):
    program, _, _ = taken_apart
    found = shapes(program)
    assert found["image"] == [1, 3, 32, 32]
    fetched = [op.inputs[0].arguments[0] for op in program.blocks[0].ops if op.type == "fetch"]
    # Strides 8 and 16 of 32 pixels: 16 and 4 cells; 3 classes; 4 sides of 8 bins.
    assert [found[name] for name in fetched] == [[1, 16, 3], [1, 4, 3], [1, 16, 32], [1, 4, 32]]


def test_attributes_at_their_default_are_written_and_source_lines_are_not(taken_apart):
    ops = taken_apart[0].blocks[0].ops
    names = {op.type: {attribute.name for attribute in op.attrs} for op in ops}
    assert "threshold" in names["relu6"]  # Paddle leaves it out, opt aborts without
    assert not any("op_callstack" in attributes for attributes in names.values())


class WithNumbers(paddle.nn.Layer):
    """Doubles an image and adds numbers of the program, each another."""

    def __init__(self):
        super().__init__()
        self.factor = self.create_parameter([1], default_initializer=paddle.nn.initializer.Constant(2.0))

    def forward(self, image):
        return image * self.factor + paddle.assign(np.arange(12, dtype="float32").reshape(3, 2, 2))


def test_numbers_of_the_program_are_the_same_for_one_image(tmp_path):
    spec = [paddle.static.InputSpec([None, 3, 2, 2], "float32", "image")]
    write_layer(WithNumbers(), spec, tmp_path)
    write_program(batch_of_one(tmp_path / "model.pdmodel", (2, 2)), tmp_path / "model.pdmodel")
    folder = ModelFolder.open(tmp_path, config=InferConfig((2, 2), ("one",)))
    (made,) = open_predictor(folder)({"image": np.full((1, 3, 2, 2), 0.5, np.float32)})
    np.testing.assert_array_equal(made.ravel(), np.arange(12) + 1)


def test_stored_values_are_what_was_stored(taken_apart):
    program, params, _ = taken_apart
    assert list(params) == stored_variables(program) == sorted(params)
    # The network's own numbers: dead channel 2 of the middle batch-norm, and the input's range.
    assert params["middle.norm.Bias"][2] == np.float32(0.77)
    assert params["image@scale"].tolist() == [1.0]
    assert params["stem.w"].shape == (6, 3, 8, 8)


def test_values_written_are_those_paddle_wrote(taken_apart, small, tmp_path):
    program, params, _ = taken_apart
    write_params(program, params, tmp_path / "again.pdiparams")
    assert (tmp_path / "again.pdiparams").read_bytes() == small.params.read_bytes()


def test_weights_of_another_model_are_refused(taken_apart, small, tmp_path):
    cut = tmp_path / "cut.pdiparams"
    cut.write_bytes(small.params.read_bytes()[:-7])
    with pytest.raises(WeightsError, match=r"cut\.pdiparams ends or breaks at "):
        read_params(taken_apart[0], cut)
    longer = tmp_path / "longer.pdiparams"
    longer.write_bytes(small.params.read_bytes() + b"more")
    with pytest.raises(WeightsError, match="holds more than the model has"):
        read_params(taken_apart[0], longer)


def test_file_that_is_no_program(tmp_path):
    (tmp_path / "model.pdmodel").write_bytes(b"\x99no program")
    with pytest.raises(WeightsError, match=r"model\.pdmodel"):
        batch_of_one(tmp_path / "model.pdmodel", (32, 32))
