"""A package with a `.tflite`: its files, its program in Python, its README."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from picoquant.backends.base import MACHINE, Backend, load_backend
from picoquant.errors import ToolError
from picoquant.packaging import forms
from picoquant.packaging.forms import forms_of, tools_of
from picoquant.packaging.package import Models, package
from picoquant.packaging.scripts.tflite import readme_text
from picoquant.packaging.verify import verify
from picoquant.targets.profiles import load_target

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install 'picoquant[tflite]'")


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    try:
        load_backend("ethos-u").toolchain.find(MACHINE)
    except ToolError as error:
        pytest.skip(str(error))
    return package(Models(models()), load_target("imx93"), tmp_path_factory.mktemp("packages"))


def test_it_holds_both_models_and_what_vela_says(made):
    assert {"model_int8.tflite", "model_int8_vela.tflite", "detect_tflite.py", "settings.json"} < set(
        made.files
    )
    assert {"model_int8.tflite", "model_int8_vela.tflite"} < set(made.bytes)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["check"]["operators"]["cpu"] == 0 and manifest["warnings"] == []
    assert manifest["versions"]["ethos-u"] and manifest["versions"]["tflite"]
    settings = json.loads((made.folder / "settings.json").read_text())
    assert settings["size"] == [64, 64] and settings["device"] == ""
    assert settings["models"][0]["file"] == "model_int8.tflite"
    readme = (made.folder / "README.md").read_text()
    assert "--model model_int8_vela.tflite --delegate /usr/lib/libethosu_delegate.so" in readme
    assert "**The delegate was not run**: no board was at hand." in readme
    checks = {check.name: check for check in verify(made.folder).checks}
    assert checks["tflite"].holds and "ethos-u" not in checks


def ran(folder, *arguments):
    """The program without picoquant, in another folder."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(folder / "detect_tflite.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")


def test_its_program_finds_what_is_expected(made, tmp_path):
    folder = Path(shutil.copytree(made.folder, tmp_path / "package"))
    done = ran(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "as expected"
    again = ran(folder, str(folder / "sample" / "image.png"))
    assert again.returncode == 0 and "expected" not in again.stdout
    expected = json.loads((folder / "sample" / "expected.json").read_text())
    expected["detections"].append({"class": 0, "label": "one", "score": 0.9, "box": [0, 0, 500, 500]})
    (folder / "sample" / "expected.json").write_text(json.dumps(expected))
    other = ran(folder)
    assert other.returncode == 1 and "NOT as expected: 1 not found, 0 not expected" in other.stdout
    assert ran(folder, "/nowhere.png").stderr.splitlines()[-1] == "cannot read /nowhere.png"
    assert "cannot read gone.tflite" in ran(folder, "--model", "gone.tflite").stderr


def test_the_programs_detections_are_ours(made, tmp_path):
    """Decoding and suppression by themselves, with outputs that find much."""
    import importlib.util

    import numpy as np

    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.paddle_program.program import program_facts
    from picoquant.postprocess import Decoder

    spec = importlib.util.spec_from_file_location("detect_tflite", made.folder / "detect_tflite.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    settings = json.loads((made.folder / "settings.json").read_text())
    shipped = ModelFolder.open(made.folder / "paddle")
    facts = program_facts(shipped.model)
    random = np.random.default_rng(1)
    outputs = [random.normal(0, 2, [1, *shape[1:]]).astype(np.float32) for _, shape in facts.outputs]
    decoder = Decoder.of(*zip(*facts.outputs), shipped.config)
    (wanted,) = decoder.decode(outputs, np.array([[0.5, 0.25]], np.float32))
    found = program.detections(outputs, settings, [0.5, 0.25])
    assert len(found) == len(wanted) > 50
    order = np.argsort(-wanted.scores, kind="stable")
    assert [row[1] for row in found] == pytest.approx(wanted.scores[order].tolist(), abs=1e-5)
    ours = sorted((label, *map(float, box)) for label, box in zip(wanted.classes.tolist(), wanted.boxes))
    theirs = sorted((label, *box) for label, _, *box in found)
    np.testing.assert_allclose(theirs, ours, atol=2e-3)


def test_a_board_that_paddle_lite_reaches_is_packaged_without_it(monkeypatch):
    chosen = forms_of(load_target("imx8mp"))
    assert [backend.name for backend in chosen.backends] == ["tflite"] and tools_of(chosen)[1] == {}
    absent = ToolError("ai_edge_litert is not installed: pip install ai-edge-litert")

    class Toolchain:
        @staticmethod
        def find(machine):
            raise absent

    monkeypatch.setattr(Backend, "toolchain", Toolchain)
    assert tools_of(chosen) == ({}, {"tflite": str(absent)})
    with pytest.raises(ToolError, match="ai_edge_litert is not installed"):
        tools_of(forms_of(load_target("imx93")))


def test_readmes_say_how_the_npu_is_reached():
    target = load_target("imx8mp")
    text = readme_text(target, forms_of(target))
    assert "--model model_int8.tflite --delegate /usr/lib/libvx_delegate.so" in text
    assert "--graph=model_int8.tflite --external_delegate_path=/usr/lib/libvx_delegate.so" in text
    assert "**The delegate was not run**" in text
    micro = load_target("ethos_u55_128")
    assert "runs on no CPU. It was compiled here and not run" in readme_text(micro, forms_of(micro))
    assert readme_text(load_target("rv1126"), forms.Forms(True, False)) == ""
