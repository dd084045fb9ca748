"""Programs that are not whole: refused before Paddle's native code crashes on them or never ends."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from picoquant.errors import WeightsError
from picoquant.paddle_program.infer_config import write_infer_config
from picoquant.paddle_program.program import program_facts, read_program
from tests.command_line import SMALL, picoquant, refusal, with_sets
from tests.networks.small_int8 import CONFIG, write_small


def slot(slots, name):
    return next(slot for slot in slots if slot.parameter == name)


def norm(program):
    return next(op for op in program.blocks[0].ops if op.type == "batch_norm")


def without_name(program):
    program.op_version_map.pair[0].ClearField("op_name")


def within_itself(program):
    """Paddle 2.6.2 looks for a variable in a block's parent without end."""
    program.blocks[0].parent_idx = 0


def with_unknown_operator(program):
    program.blocks[0].ops[1].type = "conv9d"


def with_unknown_input(program):
    """Paddle 2.6.2 reads at address 0."""
    slot(norm(program).inputs, "Variance").arguments[0] = "nowhere"


def without_input(program):
    del slot(norm(program).inputs, "X").arguments[:]


def without_output(program):
    del slot(norm(program).outputs, "Y").arguments[:]


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (without_name, "a field that must be there is missing"),
        (within_itself, "its blocks are not nested as they say"),
        (with_unknown_operator, "operator 1, 'conv9d', is none of Paddle's"),
        (with_unknown_input, "operator 4, 'batch_norm', takes 'nowhere', which is no variable"),
        (without_input, "operator 4, 'batch_norm', takes no X"),
        (without_output, "operator 4, 'batch_norm', gives no Y"),
    ],
)
def test_each_fault_is_named(tmp_path, edit, fault):
    folder = write_small(tmp_path)
    assert program_facts(folder.model).quantised
    program = read_program(folder.model)
    edit(program)
    folder.model.write_bytes(program.SerializePartialToString())
    with pytest.raises(WeightsError) as error:
        program_facts(folder.model)
    assert str(error.value) == f"{folder.model} is a damaged Paddle program ({fault}): export the model again"


@pytest.mark.parametrize("command", ["predict", "eval", "quantize", "analyze", "check"])
def test_commands_refuse_it_in_one_line_that_names_the_file(tmp_path, opt, command):
    """The network is for 32 x 32 pixels and 3 classes, its description says what the quickstart has."""
    (tmp_path / "model").mkdir()
    folder = write_small(tmp_path / "model")
    write_infer_config(replace(CONFIG, input_size=(64, 64), labels=tuple("abcde")), folder.path)
    program = read_program(folder.model)
    with_unknown_input(program)
    folder.model.write_bytes(program.SerializeToString())
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(picture)
    arguments = {
        "predict": [picture, "--model", folder.path],
        "check": ["--target", "rv1126", "--model", folder.path, "--opt", opt.path],
    }.get(command, ["-c", "quickstart", *with_sets([*SMALL, f"Global.model_dir={folder.path}"])])
    done = picoquant(command, *arguments, "--save-dir", tmp_path / "out")
    assert f"{folder.model} is a damaged Paddle program (operator" in refusal(done)
