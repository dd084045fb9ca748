"""Programs on which Paddle's native code crashes although they look sound: a process of their own finds out."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from picoquant.backends.base import Machine
from picoquant.backends.paddle import smoke_test as trial
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.paddle.smoke_test import require_survives, require_tried
from picoquant.data.formats.shapes import CLASS_NAMES
from picoquant.errors import PicoquantError, WeightsError
from picoquant.packaging.open_model import open_model
from picoquant.packaging.package import Models, package
from picoquant.packaging.verify import verify
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.infer_config import write_infer_config
from picoquant.paddle_program.program import program_facts, read_program
from picoquant.paddle_program.provenance import made_by_a_run
from picoquant.runtimes.backends import running
from picoquant.storage.files import sha256
from picoquant.targets.profiles import load_target
from tests.command_line import SMALL, picoquant, refusal, with_sets
from tests.networks.small_int8 import CONFIG, write_small

CRASH = "model.pdmodel: Paddle's native code crashed on it (SIGSEGV), so it is damaged: make it again"


def edited(model, edit):
    program = read_program(model)
    edit(program.blocks[0])
    write_program(program, model)


def as_in_training(block):
    """A quantiser that wants to write its state, for which it has no variable: Paddle 2.6.2 writes to address 0."""
    quantiser = next(op for op in block.ops if op.type == "fake_quantize_moving_average_abs_max")
    next(attribute for attribute in quantiser.attrs if attribute.name == "is_test").b = False


def without_dilations(block):
    """An empty list where Paddle 2.6.2 reads two numbers, also while it only infers shapes."""
    conv = next(op for op in block.ops if op.type == "conv2d")
    del next(attribute for attribute in conv.attrs if attribute.name == "dilations").ints[:]


def with_wrong_groups(block):
    conv = next(op for op in block.ops if op.type == "conv2d")
    next(attribute for attribute in conv.attrs if attribute.name == "groups").i = 2


@pytest.fixture
def crashing(tmp_path):
    """A package whose manifest agrees with a program that crashes."""
    (tmp_path / "model").mkdir()
    made = package(
        Models(write_small(tmp_path / "model")), load_target("generic_onnx"), tmp_path / "out"
    ).folder
    model = made / "paddle/model.pdmodel"
    edited(model, as_in_training)
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["files"]["paddle/model.pdmodel"].update(sha256=sha256(model), bytes=model.stat().st_size)
    (made / "manifest.json").write_text(json.dumps(manifest))
    return made


def test_whole_models_survive_and_what_paddle_refuses_is_said_where_it_is_loaded(tmp_path):
    folder = write_small(tmp_path)
    require_survives(folder)
    edited(folder.model, with_wrong_groups)
    require_survives(folder)
    predict = open_predictor(folder, threads=1)
    with pytest.raises(
        WeightsError, match=r"Paddle does not run .*model.pdmodel: \(InvalidArgument\) The number"
    ):
        predict({"image": np.zeros((1, 3, 32, 32), np.float32)})


def test_a_model_that_does_not_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "_SECONDS", 0.01)
    with pytest.raises(WeightsError, match="more than 0.01 s"):
        require_survives(write_small(tmp_path))


@pytest.mark.parametrize(
    ("program", "ended"),
    [("echo no paddle here >&2; exit 1", "exit code 1"), ("echo no paddle here >&2; kill -9 $$", "SIGKILL")],
)
def test_what_says_nothing_of_the_model_is_not_blamed_on_it(tmp_path, monkeypatch, program, ended):
    folder = write_small(tmp_path)
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{program}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(trial.sys, "executable", str(interpreter))
    with pytest.raises(PicoquantError) as error:
        require_survives(folder)
    assert error.value.exit_code == 1
    assert str(error.value) == f"{folder.model} could not be tried ({ended}): no paddle here"


def test_verify_says_it_and_goes_on_with_the_other_runtimes(crashing, opt):
    program_facts(crashing / "paddle/model.pdmodel")  # nothing to be seen
    checks = {check.name: check for check in verify(crashing, Machine(1, opt=str(opt.path))).checks}
    assert checks["paddle"].said == (f"{crashing}/paddle/{CRASH}",)
    assert [checks[name].holds for name in ("files", "paddle", "onnx")] == [True, False, True]
    assert checks["paddle_lite_x86"].holds is None
    assert checks["paddle_lite_x86"].said == ("not tried, as Paddle crashes on the model",)


@pytest.mark.parametrize("command", ["predict", "to onnx", "eval", "quantize", "analyze", "check"])
def test_commands_refuse_it_in_one_line(tmp_path, opt, command):
    """The network is for 32 x 32 pixels and 3 classes, its description says what the quickstart has."""
    (tmp_path / "model").mkdir()
    folder = write_small(tmp_path / "model")
    edited(folder.model, without_dilations)
    write_infer_config(replace(CONFIG, labels=CLASS_NAMES), folder.path)
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(picture)
    own = ("Global.input_size=null", f"Global.model_dir={folder.path}")
    settings = ["-c", "quickstart", *with_sets([*SMALL, *own])]
    arguments = {
        "predict": [picture, "--model", folder.path],
        "to onnx": [picture, "--model", folder.path, "--backend", "onnx"],
        "check": ["--target", "rv1126", "--model", folder.path, "--opt", opt.path],
    }.get(command, settings)
    done = picoquant(command.replace("to onnx", "predict"), *arguments, "--save-dir", tmp_path / "out")
    assert CRASH in refusal(done)


def test_a_package_as_a_model_is_refused(crashing):
    with (
        open_model(crashing) as model,
        pytest.raises(WeightsError, match="native code crashed"),
        running(model, "paddle"),
    ):
        pass


def test_what_a_run_has_made_is_not_tried_again(tmp_path, monkeypatch):
    (tmp_path / "export").mkdir()
    folder = write_small(tmp_path / "export")
    monkeypatch.setattr(trial, "_SECONDS", 0)  # none would survive
    with pytest.raises(WeightsError, match="more than 0 s"):
        require_tried(folder)
    files = {path.name: {"sha256": sha256(path)} for path in (folder.model, folder.params)}
    (tmp_path / "run.json").write_text(json.dumps({"stages": {"export": {"files": files}}}))
    require_tried(folder)
    edited(folder.model, as_in_training)
    with pytest.raises(WeightsError, match="more than 0 s"):
        require_tried(folder)
    for text in ("", "[]", '{"stages": {"export": null}}'):
        (tmp_path / "run.json").write_text(text)
        assert not made_by_a_run(folder)
