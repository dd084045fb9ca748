"""Packages of a network with zero points for a VeriSilicon NPU: the compiled network in place of the `.nb`.

In the place of VeriSilicon's driver is the stand-in of tests/npu/emulated; `test_compiled.py` has the real one.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from picoquant.backends.base import Machine
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.errors import SchemeError, ToolError
from picoquant.npu.emulated import compiled
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.packaging import verify as verification
from picoquant.packaging.package import Models, package
from picoquant.packaging.sample import read_ppm
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8
from tests.npu.emulated.conftest import stand_in
from tests.npu.emulated.test_network import answer
from tests.packaging.board import blocks

TARGET = load_target("a311d")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """PicoDet-S-NPU of random weights, with zero points."""
    folder = tmp_path_factory.mktemp("zero_points")
    fp32 = exported("picodet_s_416_coco_npu.yml", folder / "fp32")
    fold_folder(fp32.path)
    return quick_int8(fp32, folder / "int8", weight_quantize_type="abs_max", symmetric_activations=False)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "chip_of", lambda target, tool: "VIPX")
    return stand_in(tmp_path / "home")


@pytest.fixture
def opt(tmp_path):
    """One that must not be asked: it would read another network."""
    path = tmp_path / "opt"
    path.write_text('#!/bin/sh\n[ "$1" = --version ] && echo v2.13-rc || exit 9\n')
    path.chmod(0o755)
    return OptTool(path)


def test_the_compiled_network_is_what_the_board_runs(model, tool, opt, tmp_path, caplog, monkeypatch):
    made = package(Models(model), TARGET, tmp_path / "out", opt, sample=blocks(), compiler=tool)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    (name, reason), *others = manifest["left_out"].items()
    assert name == "model.nb" and not others
    assert reason.startswith("Paddle Lite's format has no zero points, as tensor ")
    assert f"package a311d: model.nb is left out: {reason}" in caplog.text
    assert "model.nb" not in made.files and "check" not in manifest
    assert manifest["compiled"]["inputs"][0]["zero_point"] == 0  # images have no value below 0
    settings = json.loads((made.folder / "settings.json").read_text())
    assert [one["precision"] for one in settings["models"]] == ["compiled"]
    text = (made.folder / "README.md").read_text()
    assert "There is no `.nb` beside it" in text and "       ./run.sh\n" in text
    assert "PADDLE_LITE_DIR" not in text and "board/" in text
    said = subprocess.run(
        ["sh", "-c", '. ./target.sh; echo "$COMPILED|$TARGET_LIBRARIES"'],
        cwd=made.folder / "board",
        capture_output=True,
        text=True,
    )
    assert said.stdout == "1|\n"

    simulation = NpuSimulation(model, TARGET.integer_rules)
    feed = feed_of_image(read_ppm(made.folder / "sample" / "image.ppm"), model.config)
    answer(tool, simulation, feed["image"])
    monkeypatch.setattr(verification.verisilicon, "find", lambda machine: tool)
    found = verification.verify(made.folder)
    assert {check.name: check.holds for check in found.checks}["compiled"] is True and found.holds
    monkeypatch.undo()
    monkeypatch.setattr(verification.verisilicon, "tool_homes", lambda name: [tmp_path / "none"])
    (absent,) = verification._compiled(None, manifest["compiled"], Machine())
    assert absent.holds is None and "run `picoquant toolchain install verisilicon" in absent.said[0]


def test_without_it_the_way_out_is_said(model, opt, tmp_path):
    said = (
        "Paddle Lite cannot hold .* is not symmetric about 0.*; or set Package.compiled=true: the network compiled "
        "for a311d's NPU holds it"
    )
    with pytest.raises(SchemeError, match=said):
        package(Models(model), TARGET, tmp_path / "out", opt, sample=blocks())
    assert not (tmp_path / "out").exists()


def test_a_target_whose_chip_is_not_known_has_no_such_way(model, opt, tool, tmp_path):
    with pytest.raises(SchemeError, match=r"is not symmetric about 0") as error:
        package(Models(model), load_target("rv1126"), tmp_path / "out", opt, sample=blocks(), compiler=tool)
    assert "Package.compiled" not in str(error.value)


def test_a_driver_that_refuses_it_leaves_nothing(model, opt, tool, tmp_path):
    (tool.path / "refuse").touch()
    with pytest.raises(ToolError, match=r"the driver refused to compile the network"):
        package(Models(model), TARGET, tmp_path / "out", opt, sample=blocks(), compiler=tool)
    assert not list((tmp_path / "out").iterdir())
