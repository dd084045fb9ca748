"""An `inference.json` from elsewhere: refused in a line, or tried in a process of its own before it runs in this."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from picoquant.backends.paddle import smoke_test as trial
from picoquant.backends.paddle.smoke_test import require_survives, require_tried
from picoquant.errors import WeightsError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.storage.files import sha256
from tests.command_line import picoquant, refusal

SMALL = Path(__file__).parents[2] / "paddle_program" / "pir" / "small"


def edited(folder: Path, edit) -> Path:
    """A copy of the small network, whose operators `edit` has changed."""
    shutil.copytree(SMALL, folder)
    content = json.loads((folder / "inference.json").read_text())
    edit(content["program"]["regions"][0]["blocks"][0]["ops"])
    (folder / "inference.json").write_text(json.dumps(content))
    return folder


def first(operators, name):
    return next(op for op in operators if op["#"] == f"1.{name}")


def with_another_operator(operators):
    first(operators, "relu6")["#"] = "1.deformable_conv"


def without_dilations(operators):
    """An empty list where Paddle reads two numbers."""
    attributes = first(operators, "conv2d")["A"]
    next(item for item in attributes if item["N"] == "dilations")["AT"]["D"] = []


@pytest.mark.parametrize("command", ["predict", "check"])
def test_operators_that_are_not_read_are_named(tmp_path, opt, command):
    folder = edited(tmp_path / "model", with_another_operator)
    picture = tmp_path / "a.png"
    Image.new("RGB", (40, 30)).save(picture)
    given = [picture] if command == "predict" else ["--target", "rv1126", "--opt", opt.path]
    said = refusal(picoquant(command, *given, "--model", folder, "--save-dir", tmp_path / "out"))
    assert f"{folder / 'inference.json'} is no program of PaddlePaddle 3 that can be read: " in said
    assert "operators that are not read here: deformable_conv; export a PicoDet for inference" in said


def test_what_paddle_s_native_code_crashes_on_is_found_out_apart(tmp_path):
    require_tried(ModelFolder.open(edited(tmp_path / "sound", lambda operators: None)))
    folder = ModelFolder.open(edited(tmp_path / "crashing", without_dilations))
    with pytest.raises(WeightsError, match=r"inference\.json: Paddle's native code crashed on it"):
        require_survives(folder)


def test_it_is_tried_unless_a_run_here_has_made_it(tmp_path, monkeypatch):
    folder = ModelFolder.open(edited(tmp_path / "export", lambda operators: None))
    monkeypatch.setattr(trial, "_SECONDS", 0)  # none would survive
    with pytest.raises(WeightsError, match=r"inference\.json: Paddle took more than 0 s"):
        require_tried(folder)
    files = {path.name: {"sha256": sha256(path)} for path in (folder.model, folder.params)}
    (tmp_path / "run.json").write_text(json.dumps({"stages": {"export": {"files": files}}}))
    require_tried(folder)
