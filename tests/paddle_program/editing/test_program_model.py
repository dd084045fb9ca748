"""Programs changed as messages: operators, tensors, outputs, and files that Paddle runs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from paddle.base.proto import framework_pb2

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import PicoquantError, WeightsError
from picoquant.paddle_program.editing.program_model import Inserter, ProgramModel
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.paddle_program.program import program_facts, read_program
from tests.networks.small_net import CONFIG, batches

FEED = next(batches(0))


@pytest.fixture
def model(small_model):
    """The small network: a body with three batch-norms, and two heads."""
    return ProgramModel.load(small_model)


def outputs_of(model, folder):
    """What Paddle computes of a model that is saved in a folder."""
    model.save(folder)
    return open_predictor(ModelFolder.open(folder, config=CONFIG))(FEED)


def test_a_model_is_its_files_again(model, small_model, tmp_path):
    model.save(tmp_path)
    again = ProgramModel.load(tmp_path)
    assert [op.outputs for op in again.operators] == [op.outputs for op in model.operators]
    assert again.graph().tensors == model.graph().tensors
    assert (model.inputs, len(model.outputs)) == (("image",), 2)
    assert [op.type for op in model.operators if op.type in ("feed", "fetch")] == []
    assert (tmp_path / PARAMS).read_bytes() == (small_model / PARAMS).read_bytes()
    first = (tmp_path / MODEL).read_bytes()
    again.save(tmp_path)
    assert (tmp_path / MODEL).read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == [PARAMS, MODEL]


def test_operators_stand_where_they_are_inserted(model, tmp_path):
    before = outputs_of(model, tmp_path / "before")
    sigmoid = next(op for op in model.operators if op.type == "sigmoid")
    source, result = sigmoid.input("X")[0], sigmoid.output("Out")[0]
    inserter = Inserter(model, model.index(sigmoid))
    for name in ("doubled", "halved"):
        model.add_tensor(name, source)
    inserter.operator("scale", {"X": source}, {"Out": "doubled"}, {"scale": 2.0, "bias": 0.5})
    inserter.operator("scale", {"X": "doubled"}, {"Out": "halved"}, {"scale": 0.5, "bias": 0.0})
    model.rename_reads(source, "halved", inserter.index)
    index = model.index(sigmoid)
    assert [op.type for op in model.operators[index - 2 : index + 1]] == ["scale", "scale", "sigmoid"]
    assert sigmoid.inputs == ("halved",) and model.users(source) == [model.operators[index - 2]]
    assert model.producer("halved") is model.operators[index - 1] and model.producer(result) is sigmoid
    assert model.operators[index - 1].attributes["scale"] == 0.5
    assert model.shape("halved") == model.shape(source)
    after = outputs_of(model, tmp_path / "after")
    logits = np.log(before[0] / (1 - before[0]))
    np.testing.assert_allclose(after[0], 1 / (1 + np.exp(-logits - 0.25)), atol=1e-5)
    np.testing.assert_array_equal(after[1], before[1])


def test_a_tensor_that_is_renamed_keeps_its_value_and_place(model, tmp_path):
    before = outputs_of(model, tmp_path / "before")
    conv = model.operators[0]
    weight, result = conv.input("Filter")[0], conv.output("Output")[0]
    value = model.values[weight]
    for name in (weight, result, *model.outputs):
        model.rename(name, f"{name}.new")
    assert conv.input("Filter") == (f"{weight}.new",) and conv.results == (f"{result}.new",)
    assert not model.has(weight) and model.is_stored(f"{weight}.new") and not model.is_stored(weight)
    assert model.values[f"{weight}.new"] is value and weight not in model.values
    for found, expected in zip(outputs_of(model, tmp_path / "after"), before):
        np.testing.assert_array_equal(found, expected)
    assert [name for name, _ in program_facts(tmp_path / "after" / MODEL).outputs] == list(model.outputs)
    with pytest.raises(PicoquantError, match="has a tensor image already"):
        model.rename(f"{result}.new", "image")


def test_a_copy_computes_what_is_asked_and_nothing_else(model, tmp_path):
    relu = next(op for op in model.operators if op.type == "relu6").results[0]
    cut = model.with_outputs([relu, "image"])
    assert [op.type for op in cut.operators] == ["conv2d", "batch_norm", "relu6"]
    assert cut.outputs == (relu, "image") and cut.inputs == ("image",)
    assert sorted(cut.values) == sorted(
        name for name in (n for op in cut.operators for n in op.inputs) if cut.is_stored(name)
    )
    assert len(model.operators) > 3 and len(model.outputs) == 2  # the model itself is as it was
    value, image = outputs_of(cut, tmp_path)
    assert value.shape == (2, 8, 16, 16) and value.min() >= 0 and value.max() <= 6
    np.testing.assert_array_equal(image, FEED["image"])
    with pytest.raises(PicoquantError, match="has no tensor nothing"):
        model.with_outputs(["nothing"])


def test_values_are_written_in_their_type_and_shape(model, tmp_path):
    bias = next(name for name, value in model.values.items() if value.size == 2)
    before = outputs_of(model, tmp_path / "before")[0]
    shift = np.array([100.0, -100.0])  # float64
    other = model.copy()
    other.write(bias, model.values[bias] + shift.reshape(model.values[bias].shape))
    assert other.values[bias].dtype == np.float32
    found = outputs_of(other, tmp_path / "after")[0]
    assert found[:, 0].min() == 1 and found[:, 1].max() < 1e-30
    np.testing.assert_array_equal(outputs_of(model, tmp_path / "again")[0], before)
    other.write(bias, np.zeros((5, 7)))
    assert other.shape(bias) == (5, 7)
    assert other.store("extra", np.arange(3)) == "extra" and other.is_stored("extra")
    assert not model.has("extra")
    with pytest.raises(PicoquantError, match="no stored tensor image"):
        model.write("image", np.zeros(3))


def test_a_stored_tensor_is_in_the_files(model, tmp_path):
    model.store("extra", np.float32([[1, 2, 3]]))
    model.save(tmp_path)
    again = ProgramModel.load(tmp_path)
    np.testing.assert_array_equal(again.values["extra"], [[1, 2, 3]])
    again.drop_unused()
    assert not again.has("extra") and "extra" not in again.values and again.has(again.outputs[0])


def test_an_operator_of_tensors_that_are_not_there_is_refused(model):
    with pytest.raises(PicoquantError, match=f"{MODEL} has no tensor nowhere"):
        model.insert(0, "relu", {"X": ["image"]}, {"Out": ["nowhere"]}, {})
    assert model.operators[0].type == "conv2d"


def test_attributes_are_set_in_a_copy_alone(model):
    other = model.copy()
    other.operators[0].set_attribute("op_namescope", "/kept/")
    copied = other.insert_copy(1, other.operators[0])
    copied.rename_output(copied.results[0], "elsewhere")
    assert other.operators[0].attributes["op_namescope"] == copied.attributes["op_namescope"] == "/kept/"
    assert other.operators[0].results != copied.results
    assert model.operators[0].attributes.get("op_namescope") != "/kept/"


def test_control_flow_is_refused(small_model, tmp_path):
    program = read_program(small_model / MODEL)
    program.blocks.add(idx=1, parent_idx=0)
    made = program.blocks[0].ops.add(type="conditional_block")
    for slots, names in ((made.inputs, ("Cond", "Input")), (made.outputs, ("Out", "Scope"))):
        for name in names:
            slots.add(parameter=name, arguments=["image"])
    made.attrs.add(name="sub_block", type=framework_pb2.BLOCK, block_idx=1)
    (tmp_path / MODEL).write_bytes(program.SerializeToString())
    shutil.copyfile(small_model / PARAMS, tmp_path / PARAMS)
    with pytest.raises(
        WeightsError, match=rf"{MODEL} has control flow \(conditional_block: .*export the model"
    ):
        ProgramModel.load(tmp_path)


@pytest.mark.parametrize("name", [MODEL, PARAMS])
@pytest.mark.parametrize("content", [b"", b"\x00\xff" * 40])
def test_damaged_files_are_refused(model, tmp_path, name, content):
    model.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        ProgramModel.load(tmp_path)
