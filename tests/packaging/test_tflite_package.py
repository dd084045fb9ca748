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
from picoquant.packaging.forms import forms_of, tools_of
from picoquant.packaging.package import Models, package
from picoquant.packaging.readme import readme
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
    both = {"model_int8.tflite", "model_int8_vela.tflite"}
    assert both | {"settings.json", "python/detect.py", "python/network.py"} < set(made.files)
    assert "board/src/network_tflite.cpp" in made.files
    assert both < set(made.bytes)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["check"]["operators"]["cpu"] == 0 and manifest["warnings"] == []
    assert manifest["versions"]["ethos-u"] and manifest["versions"]["tflite"]
    settings = json.loads((made.folder / "settings.json").read_text())
    assert settings["size"] == [64, 64] and settings["device"] == ""
    models = [(one["precision"], one["file"]) for one in settings["models"]]
    assert models == [("int8", "model_int8.tflite"), ("ethos-u", "model_int8_vela.tflite")]
    readme = (made.folder / "README.md").read_text()
    assert "TFLITE_MODEL=model_int8_vela.tflite TFLITE_DELEGATE=/usr/lib/libethosu_delegate.so" in readme
    assert "**It was not run**: no board was at hand." in readme and "-DTFLITE_DIR=/usr" in readme
    assert "board/build/detect --package . --model ethos-u --expected sample/expected.json" in readme
    checks = {check.name: check for check in verify(made.folder).checks}
    assert checks["tflite"].holds and "ethos-u" not in checks


def ran(folder, *arguments, **variables):
    """The program without picoquant, in another folder."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(folder / "python" / "detect.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**environment, **variables}, cwd="/")


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
    assert other.returncode == 1 and other.stdout.splitlines()[-1].startswith("not found: [(0, 0.9, ")
    assert "gone.tflite" in ran(folder, TFLITE_MODEL="gone.tflite").stderr


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
    text = readme(target, forms_of(target), True)
    assert "TFLITE_MODEL=model_int8.tflite TFLITE_DELEGATE=/usr/lib/libvx_delegate.so" in text
    assert (
        "build/detect --package .. --model tflite --expected" in text
    )  # run.sh is for Paddle Lite's program
    assert "--graph=model_int8.tflite --external_delegate_path=/usr/lib/libvx_delegate.so" in text
    assert "**It was not run**: no board was at hand." in text
    micro = load_target("ethos_u55_128")
    assert "it runs on no CPU. It was compiled here and not run" in readme(micro, forms_of(micro), True)
    assert "delegate" not in readme(load_target("rv1126"), forms_of(load_target("rv1126")), True)
