"""A whole package, by the real tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from picoquant.backends.paddle_lite.export import make_nb
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.backends.paddle_lite.report import read_partitioned
from picoquant.errors import ToolError, UserError, WeightsError
from picoquant.int8.files import open_network
from picoquant.packaging.forms import ONNX_VARIANTS
from picoquant.packaging.package import Models, package
from picoquant.packaging.verify import verify
from picoquant.paddle_program.edit import batch_of_one, smaller_for_opt, write_program
from picoquant.paddle_program.infer_config import normalisation
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.storage.files import sha256
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8
from tests.networks.small_int8 import CONFIG, write_small
from tests.packaging.board import blocks
from tests.packaging.contents import FACTS, content
from tests.targets.test_profiles import SOCS

BOARD = Path(__file__).parents[2] / "picoquant" / "packaging" / "board"


# The last rename of all, the archive's, kills the process.
KILLED = """
import os, sys
from pathlib import Path
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.backends.paddle_lite.export import make_nb
from picoquant.packaging.package import Models, package
from picoquant.targets.profiles import load_target
from picoquant.backends.paddle_lite.opt_tool import OptTool

model, out, opt = map(Path, sys.argv[1:])
rename = os.replace

def replace(old, new):
    if Path(new) == out / "rv1126.tar.gz":
        os.kill(os.getpid(), 9)
    rename(old, new)

os.replace = replace
package(Models(ModelFolder.open(model)), load_target("rv1126"), out, OptTool(opt))
"""
SOURCES = {
    f"board/{path.relative_to(BOARD).as_posix()}"
    for path in BOARD.rglob("*")
    if path.is_file() and path.parent.name != "android"
}


def test_files_and_hashes(made, opt):
    assert {"board/CMakeLists.txt", "board/run.sh", "board/src/main.cpp"} < SOURCES
    assert set(made.files) == SOURCES | {
        "README.md",
        "board/target.sh",
        "environment.sh",
        "labels.txt",
        "manifest.json",
        "model.nb",
        "model_int8.onnx",
        "model_int8_boxes.onnx",
        "model_int8_detections.onnx",
        "model_qdq.onnx",
        "paddle/infer_cfg.yml",
        "paddle/model.pdiparams",
        "paddle/model.pdmodel",
        "preprocess.yml",
        "sample/expected.json",
        "sample/image.png",
        "sample/image.ppm",
        "settings.json",
    }
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == set(made.files) - {"manifest.json"}
    for name, facts in manifest["files"].items():
        path = made.folder / name
        assert facts == {"sha256": sha256(path), "bytes": path.stat().st_size}
    assert manifest["mAP"] == {"fp32": 0.34, "int8": 0.33} and manifest["settings"] == {"seed": 0}
    assert manifest["versions"]["opt"] == opt.version
    tools = {"picoquant", "python", "paddlepaddle", "onnx", "onnxruntime"}
    tools |= {name for name in ("paddleslim", "paddle2onnx") if find_spec(name)}
    assert tools <= set(manifest["versions"])
    assert manifest["sample"]["source"] == "made from a seed; it shows nothing"
    assert made.bytes["model.nb"] == (made.folder / "model.nb").stat().st_size > 10_000
    assert os.access(made.folder / "board/run.sh", os.X_OK)


def test_nb_is_for_the_npu(made):
    data = (made.folder / "model.nb").read_bytes()
    assert b"subgraph" in data and b"Input0_scale" in data
    assert b"fake_" not in data  # no quantising operator is left to simulate


def test_manifest_holds_the_check(made):
    check = json.loads((made.folder / "manifest.json").read_text())["check"]
    assert (check["target"], check["npu_pieces"], check["partition_file"]) == ("rv1126", 1, "")
    # The small network is quantised by hand and has no scale behind a convolution, which boards refuse.
    assert {finding["rule"] for finding in check["rules_broken"]} == {"scales"}
    (line,) = json.loads((made.folder / "manifest.json").read_text())["warnings"]
    assert line.startswith("rv1126: rule scales is broken: tensor_3: conv2d has no quantisation scale for ")
    assert f"(and {len(check['rules_broken']) - 1} more)" in line
    assert json.loads((made.folder / "settings.json").read_text())["partition"] == ""


def test_what_opt_does_not_need_is_left_out_and_changes_no_scale(taken_apart, small, opt, tmp_path):
    program, made = taken_apart[0], {}
    for name, given in (("whole", program), ("smaller", smaller_for_opt(program))):
        write_program(given, tmp_path / name)
        opt.run(tmp_path / name, small.params, tmp_path / f"{name}.d", "verisilicon_timvx,arm", "protobuf")
        split = read_partitioned(tmp_path / f"{name}.d", {})
        made[name] = [
            (op.op_type, op.name, {k: v for k, v in op.attributes.items() if k.endswith("_scale")})
            for op in split.at("npu")
        ]
    assert made["smaller"] == made["whole"] and len(made["whole"]) > 10
    assert (tmp_path / "smaller").stat().st_size < (tmp_path / "whole").stat().st_size


@pytest.fixture(scope="module")
def split_model(tmp_path_factory):
    """A model with scores inside, which the NPU takes in two pieces."""
    folder = tmp_path_factory.mktemp("split")
    return quick_int8(exported("picodet_s_416_coco_npu.yml", folder / "fp32", kind="boxes"), folder / "int8")


def test_broken_rules_are_warnings_and_the_partition_file_is_packaged(split_model, opt, tmp_path, caplog):
    target = load_target("rv1126")
    result = package(Models(split_model), target, tmp_path, opt)
    manifest = json.loads((result.folder / "manifest.json").read_text())
    said = "rv1126: rule one_piece is broken: sqrt_0.tmp_0: 2 NPU pieces"
    assert said in caplog.text and any(said in line for line in manifest["warnings"])
    assert {finding["rule"] for finding in manifest["check"]["rules_broken"]} == {"one_piece", "conversions"}
    assert len(manifest["warnings"]) == 2  # a line a rule
    text = (result.folder / "partition.txt").read_text()
    assert text.startswith("reshape2::") and "partition.txt" in manifest["files"]
    assert json.loads((result.folder / "settings.json").read_text())["partition"] == "partition.txt"
    check = manifest["check"]
    assert (check["partition_file"], check["npu_pieces"]) == ("partition.txt", 2)
    assert check["npu_pieces_with_partition_file"] == 1
    # opt was given the file: without it the .nb has two pieces.
    program = batch_of_one(split_model.model, split_model.config.input_size)
    make_nb(program, split_model.params, tmp_path / "plain.nb", target, opt, open_network(split_model))
    pieces = [path.read_bytes().count(b"\x08\0\0\0subgraph") for path in _nbs(result, tmp_path)]
    assert pieces == [1, 2]


def _nbs(result, folder):
    return result.folder / "model.nb", folder / "plain.nb"


def test_texts(made):
    assert (made.folder / "labels.txt").read_text() == "red cell\nwhite cell\nplatelet\n"
    text = yaml.safe_load((made.folder / "preprocess.yml").read_text())
    assert text["input"]["tensors"] == [{"name": "image", "shape": [1, 3, 32, 32]}]
    assert (text["output"]["kind"], text["decode"]["reg_max"]) == ("raw", 7)
    assert text["decode"]["strides"] == [8, 16] and text["decode"]["cell_offset"] == 0.5
    assert text["resize"]["interpolation"] == "cubic"
    assert text["decode"]["score_threshold"] == 0.025 and text["decode"]["nms_threshold"] == 0.6
    lines = (made.folder / "environment.sh").read_text().splitlines()
    assert "export VSI_NN_LOG_LEVEL='0'" in lines and not any("-pcq" in line for line in lines)
    fusion = "TIMVX_BATCHNORM_FUSION_MAX_ALLOWED_QUANT_SCALE_DEVIATION='30000'"
    assert [line for line in lines if "BATCHNORM" in line] == [
        f"export {fusion}",
        f"export VERISILICON_{fusion}",
    ]


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
    again = package(Models(elsewhere), load_target("rv1126"), tmp_path / "a much longer path", opt, FACTS)
    assert content(again.folder) == content(made.folder)
    assert again.archive.read_bytes() == made.archive.read_bytes()


def test_cpu_target_holds_three_precisions_and_what_each_should_detect(small, opt, tmp_path):
    (tmp_path / "float").mkdir()
    models = Models(small, write_small(tmp_path / "float", quantised=False))
    result = package(models, load_target("arm_cpu"), tmp_path / "out", opt)
    assert {"model.nb", "model_fp32.nb", "model_fp16.nb", "sample/expected_fp32.json"} <= set(result.files)
    names = ("model.nb", "model_fp32.nb", "model_fp16.nb")
    nb = {name: (result.folder / name).read_bytes() for name in names}
    assert len(set(nb.values())) == 3
    assert not any(b"verisilicon" in data for data in nb.values())
    check = json.loads((result.folder / "manifest.json").read_text())["check"]
    assert check["operators"]["npu"] == 0 and check["rules_broken"] == []
    assert not {"npu_pieces", "conversions", "cpu_operators", "partition_file"} & set(check)
    settings = json.loads((result.folder / "settings.json").read_text())
    assert settings["device"] == ""
    precisions = ("int8", "fp32", "fp16")
    assert settings["models"] == [
        {"precision": precision, "file": name, "sha256": sha256(result.folder / name)}
        for precision, name in zip(precisions, names)
    ]
    assert "TARGET_DRIVER=''" in (result.folder / "board/target.sh").read_text()
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["model"]["nb"] == dict(zip(precisions, names))
    text = (result.folder / "README.md").read_text()
    assert text.startswith("# Package for arm_cpu\n\nany ARM CPU: ARMv7 or ARMv8; no NPU.\n")
    assert "It checks CPU and libraries, runs the sample" in text
    assert "runs the INT8 model, with `--model fp32` or `--model fp16` another one" in text
    assert "| `model_fp16.nb` | FP16, for Paddle Lite v2.13-rc on the CPU |" in text


def test_cpu_target_takes_a_float_model_alone(opt, tmp_path):
    models = Models(fp32=write_small(tmp_path, quantised=False))
    result = package(models, load_target("arm_cpu"), tmp_path / "out", opt)
    assert set(result.bytes) == {"model_fp32.nb", "model_fp16.nb"}
    models = json.loads((result.folder / "settings.json").read_text())["models"]
    assert [model["file"] for model in models] == ["model_fp32.nb", "model_fp16.nb"]
    assert verify(result.archive).holds


def test_target_without_paddle_lite_needs_no_opt(small, tmp_path):
    result = package(Models(small), load_target("generic_onnx"), tmp_path, sample=blocks())
    assert set(result.bytes) == {"model_int8.onnx", "model_qdq.onnx", *ONNX_VARIANTS.values()}
    assert not any(name.startswith("board/") for name in result.files)
    assert "check" not in json.loads((result.folder / "manifest.json").read_text())
    assert verify(result.folder).holds
    with pytest.raises(UserError, match="rv1126 needs Paddle Lite's opt"):
        package(Models(small), load_target("rv1126"), tmp_path)
    with pytest.raises(UserError, match="generic_onnx takes INT8 models only"):
        package(Models(fp32=small), load_target("generic_onnx"), tmp_path)


@pytest.mark.parametrize("name", [*(name for name in SOCS if name != "rv1126"), "arm_cpu"])
def test_every_shipped_target(name, taken_apart, small, opt, tmp_path):
    from picoquant.backends.paddle_lite.export import make_nb

    make_nb(taken_apart[0], small.params, tmp_path / "model.nb", load_target(name), opt, taken_apart[2])
    assert (tmp_path / "model.nb").stat().st_size > 10_000


def test_refusing_opt_leaves_the_old_package_as_it_was(made, small, tmp_path):
    refusing = tmp_path / "opt"
    refusing.write_text("#!/bin/sh\necho v2.13-rc\ncase $* in *version*) ;; *) kill -ABRT $$ ;; esac\n")
    refusing.chmod(0o755)
    before = content(made.folder.parent)
    with pytest.raises(ToolError, match=r"opt \(.*\) did not take model\.pdmodel for verisilicon_timvx,arm"):
        package(Models(small), load_target("rv1126"), made.folder.parent, OptTool(refusing))
    assert content(made.folder.parent) == before
    assert sorted(os.listdir(made.folder.parent)) == ["rv1126", "rv1126.tar.gz"]


def test_missing_opt_leaves_nothing(small, tmp_path):
    with pytest.raises(ToolError, match="none cannot be read: No such file"):
        package(Models(small), load_target("rv1126"), tmp_path / "out", OptTool(tmp_path / "none"))
    assert not (tmp_path / "out").exists()


def test_float_model_leaves_nothing(opt, tmp_path):
    folder = write_small(tmp_path, quantised=False)
    with pytest.raises(WeightsError, match="float model"):
        package(Models(folder), load_target("rv1126"), tmp_path / "out", opt)
    assert not (tmp_path / "out").exists()


def test_packaging_killed_before_the_archive_leaves_no_half_package(made, small, opt, tmp_path):
    shutil.copytree(made.folder, tmp_path / "rv1126")
    shutil.copyfile(made.archive, tmp_path / "rv1126.tar.gz")
    command = [sys.executable, "-c", KILLED, str(small.path), str(tmp_path), str(opt.path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "rv1126.tar.gz").exists()  # rather none than that of another package
    assert verify(tmp_path / "rv1126").checks[0].holds
    again = package(Models(small), load_target("rv1126"), tmp_path, opt, FACTS)
    assert again.archive.read_bytes() == made.archive.read_bytes()


def test_another_version_of_opt_is_said_and_recorded(small, opt, tmp_path, caplog):
    target = load_target("rv1126")
    older = replace(target, paddle_lite=replace(target.paddle_lite, opt_version="v2.10"))
    result = package(Models(small), older, tmp_path, opt)
    said = f"opt is {opt.version}, the profile of rv1126 was checked with v2.10"
    assert said in caplog.text
    assert said in json.loads((result.folder / "manifest.json").read_text())["warnings"][0]


def test_normalisation_in_both_countings():
    # 0.5 of 0-1 is 127.5 of 0-255; numbers given for 0-255 (is_scale false) are divided instead.
    scaled = normalisation(replace(CONFIG, mean=(0.5, 0, 0), std=(0.2, 1, 1)))
    assert scaled["pixels_0_255"] == {"mean": [127.5, 0, 0], "std": [51.0, 255, 255]}
    assert scaled["pixels_0_1"] == {"mean": [0.5, 0, 0], "std": [0.2, 1, 1]}
    plain = normalisation(replace(CONFIG, mean=(127.5, 0, 0), std=(51.0, 255, 255), is_scale=False))
    assert plain["pixels_0_1"] == {"mean": [0.5, 0, 0], "std": [0.2, 1, 1]}
