"""A whole package, by the real tools."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
import yaml

from picoquant.errors import ToolError, WeightsError
from picoquant.export.model_folder import ModelFolder
from picoquant.files import sha256
from picoquant.packaging.package import package
from picoquant.packaging.preprocess import normalisation
from picoquant.packaging.targets import load_target
from picoquant.toolchain.opt_tool import OptTool
from tests.packaging.small_int8 import CONFIG, write_small
from tests.packaging.test_targets import SOCS


def content(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def made(small, opt, tmp_path_factory):
    out = tmp_path_factory.mktemp("package")
    return package(small, load_target("rv1126"), out, opt, {"fp32": 0.34, "int8": 0.33}, {"seed": 0})


def test_files_and_hashes(made, opt):
    assert made.files == (
        "environment.sh",
        "labels.txt",
        "manifest.json",
        "model.nb",
        "model_int8.onnx",
        "model_int8_boxes.onnx",
        "model_int8_detections.onnx",
        "paddle/infer_cfg.yml",
        "paddle/model.pdiparams",
        "paddle/model.pdmodel",
        "preprocess.yml",
    )
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == set(made.files) - {"manifest.json"}
    for name, facts in manifest["files"].items():
        path = made.folder / name
        assert facts == {"sha256": sha256(path), "bytes": path.stat().st_size}
    assert manifest["mAP"] == {"fp32": 0.34, "int8": 0.33} and manifest["settings"] == {"seed": 0}
    assert manifest["versions"]["opt"] == opt.version
    tools = {"picoquant", "python", "paddlepaddle", "paddleslim", "paddle2onnx", "onnx", "onnxruntime"}
    assert tools <= set(manifest["versions"])
    assert made.nb_bytes == (made.folder / "model.nb").stat().st_size > 10_000


def test_nb_is_for_the_npu(made):
    data = (made.folder / "model.nb").read_bytes()
    assert b"subgraph" in data and b"Input0_scale" in data
    assert b"fake_" not in data  # no quantising operator is left to simulate


def test_texts(made):
    assert (made.folder / "labels.txt").read_text() == "red cell\nwhite cell\nplatelet\n"
    text = yaml.safe_load((made.folder / "preprocess.yml").read_text())
    assert text["input"]["tensors"] == [{"name": "image", "shape": [1, 3, 32, 32]}]
    assert (text["output"]["kind"], text["decode"]["reg_max"]) == ("raw", 7)
    assert text["decode"]["strides"] == [8, 16] and text["decode"]["cell_offset"] == 0.5
    assert text["resize"]["interpolation"] == "cubic"
    assert text["decode"]["score_threshold"] == 0.025 and text["decode"]["nms_threshold"] == 0.6
    lines = (made.folder / "environment.sh").read_text().splitlines()
    assert "export VIV_VX_ENABLE_GRAPH_TRANSFORM='-pcq:1'" in lines


def test_packaged_paddle_model_opens_and_takes_one_image(made):
    folder = ModelFolder.open(made.folder / "paddle")
    assert folder.config == CONFIG


def test_nothing_of_this_machine_is_in_it(made, small):
    for name, data in content(made.folder).items():
        if name != "model.nb":
            assert str(small.path.parent).encode() not in data, name


def test_same_bytes_again_from_elsewhere(made, small, opt, tmp_path, monkeypatch):
    monkeypatch.setenv("SOMETHING_LONG", "x" * 3000)
    monkeypatch.chdir(tmp_path)
    elsewhere = ModelFolder.open(shutil.copytree(small.path, tmp_path / "copy"))
    settings = ({"fp32": 0.34, "int8": 0.33}, {"seed": 0})
    again = package(elsewhere, load_target("rv1126"), tmp_path / "a much longer path", opt, *settings)
    assert content(again.folder) == content(made.folder)


@pytest.mark.parametrize("name", [*(name for name in SOCS if name != "rv1126"), "arm_cpu"])
def test_every_shipped_target(name, taken_apart, small, opt, tmp_path):
    from picoquant.packaging.lite_model import make_nb

    make_nb(taken_apart[0], small.params, tmp_path / "model.nb", load_target(name), opt)
    assert (tmp_path / "model.nb").stat().st_size > 10_000


def test_refusing_opt_leaves_the_old_package_as_it_was(made, small, tmp_path):
    refusing = tmp_path / "opt"
    refusing.write_text("#!/bin/sh\necho v2.13-rc\ncase $* in *version*) ;; *) kill -ABRT $$ ;; esac\n")
    refusing.chmod(0o755)
    before = content(made.folder)
    with pytest.raises(ToolError, match=r"opt \(.*\) did not take model\.pdmodel for verisilicon_timvx,arm"):
        package(small, load_target("rv1126"), made.folder.parent, OptTool(refusing))
    assert content(made.folder) == before
    assert os.listdir(made.folder.parent) == ["rv1126"]


def test_missing_opt_leaves_nothing(small, tmp_path):
    with pytest.raises(ToolError, match="none cannot be read: No such file"):
        package(small, load_target("rv1126"), tmp_path / "out", OptTool(tmp_path / "none"))
    assert not (tmp_path / "out").exists()


def test_float_model_leaves_nothing(opt, tmp_path):
    folder = write_small(tmp_path, quantised=False)
    with pytest.raises(WeightsError, match="float model"):
        package(folder, load_target("rv1126"), tmp_path / "out", opt)
    assert not (tmp_path / "out").exists()


def test_another_version_of_opt_is_said(small, taken_apart, opt, tmp_path, caplog):
    from picoquant.packaging.lite_model import make_nb

    target = load_target("rv1126")
    older = replace(target, paddle_lite=replace(target.paddle_lite, opt_version="v2.10"))
    make_nb(taken_apart[0], small.params, tmp_path / "model.nb", older, opt)
    assert f"opt is {opt.version}, the profile of rv1126 was checked with v2.10" in caplog.text


def test_normalisation_in_both_countings():
    # 0.5 of 0-1 is 127.5 of 0-255; numbers given for 0-255 (is_scale false) are divided instead.
    scaled = normalisation(replace(CONFIG, mean=(0.5, 0, 0), std=(0.2, 1, 1)))
    assert scaled["pixels_0_255"] == {"mean": [127.5, 0, 0], "std": [51.0, 255, 255]}
    assert scaled["pixels_0_1"] == {"mean": [0.5, 0, 0], "std": [0.2, 1, 1]}
    plain = normalisation(replace(CONFIG, mean=(127.5, 0, 0), std=(51.0, 255, 255), is_scale=False))
    assert plain["pixels_0_1"] == {"mean": [0.5, 0, 0], "std": [0.2, 1, 1]}
