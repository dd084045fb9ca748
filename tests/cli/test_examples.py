"""The example at the end of each command's help, taken from there and run as it stands.

Files of the names that the examples use are made beforehand: a small run in `output/`, recipes that begin with the
shipped ones and make them small, images, weights. A new command's example is found and run without a word here.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from picoquant.backends.acuity import toolchain as acuity
from picoquant.backends.base import Machine
from picoquant.backends.paddle_lite.install import own_environments
from picoquant.backends.paddle_lite.toolchain import find_opt
from picoquant.backends.verisilicon import toolchain as verisilicon
from picoquant.cli.main import cli
from picoquant.cli.tree import commands
from picoquant.errors import ToolError
from picoquant.weight_files.files import write_weights
from picoquant.yaml_files.locate import shipped
from tests.command_line import picoquant

SMALL = """
_BASE_: [{base}]
Synthetic: {{train_images: 8, val_images: 50, image_size: 96}}
Global: {{input_size: [64, 64]}}
epoch: 1
TrainReader: {{batch_size: 4}}
EvalReader: {{batch_size: 2}}
worker_num: 0
TrainConfig: {{train_iter: 2, eval_iter: 2}}
"""
SMALL_DETECTOR = """
_BASE_: [{base}]
Global: {{input_size: [64, 64]}}
pretrain_weights: null
epoch: 1
TrainReader: {{batch_size: 4}}
EvalReader: {{batch_size: 2}}
worker_num: 0
TrainDataset: !COCODataSet
  dataset_dir: {data}
  image_dir: train
  anno_path: annotations/instances_train.json
  data_fields: [image, gt_bbox, gt_class, is_crowd]
EvalDataset: !COCODataSet
  dataset_dir: {data}
  image_dir: val
  anno_path: annotations/instances_val.json
  allow_empty: true
"""

# Needs no run; all others begin with one.
QUICK = ("targets", "completion", "info", "convert-weights picodet.pdparams", "doctor", "toolchain")
SLOW = "begins with a small run of all stages; all of these are some minutes of CPU"
NEEDS_OPT = ("run", "package", "check", "verify", "targets refresh", "doctor", "toolchain install", "report")
STAGES = {
    "export": "export",
    "quantize": "quantize",
    "eval": "evaluate",
    "package": "package",
    "run": "package",
}


def help_of(path):
    """What `picoquant PATH --help` prints."""
    return CliRunner().invoke(cli, [*path, "--help"]).output


def examples(path):
    """The commands of the last paragraph of a help text."""
    last = help_of(path).rstrip().split("\n\n")[-1]
    assert re.match(r" *Examples?:  picoquant ", last), (
        f"{' '.join(path)} --help does not end with an example"
    )
    text = re.sub(r"\\\n *", "", re.sub(r"^ *Examples?:", "", last))
    return [" ".join(line.split()) for line in text.splitlines()]


PATHS = [(), *(path for path, _ in commands(cli))]


EVERY = list(dict.fromkeys(text for path in PATHS for text in examples(path)))


def is_quick(text):
    return text.removeprefix("picoquant ").startswith(QUICK)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_an_example_is_of_its_command(path):
    for text in examples(path):
        assert text.startswith(" ".join(["picoquant", *path]))


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    """A folder with recipes and weights, and no run."""
    home = tmp_path_factory.mktemp("examples")
    data = home / "output/dataset"
    (home / "quickstart.yaml").write_text(SMALL.format(base=shipped("recipes", "quickstart")))
    name = "picodet_s_416_coco_npu.yml"
    (home / name).write_text(SMALL_DETECTOR.format(base=shipped("configs", name), data=data))
    write_weights({"head.weight": np.ones(3, np.float32)}, home / "picodet.pdparams")
    return home


@pytest.fixture(scope="module")
def made(recipes):
    """The same with a run in `output/`, and everything else that examples name."""
    home = recipes
    data = home / "output/dataset"
    done = picoquant("run", "-c", "quickstart.yaml", "--save-dir", "output/", "--until", "evaluate", cwd=home)
    assert done.returncode == 0, done.stderr
    if has_opt():
        done = picoquant("package", "--save-dir", "output/", cwd=home)
        assert done.returncode == 0, done.stderr
    shutil.copytree(data, home / "cells")
    for name in ("images", "photos", "aerial"):
        shutil.copytree(data / "val", home / name)
    shutil.copy(home / "output/train/best.pdparams", home / "best.pdparams")
    return home


def has_opt():
    try:
        return bool(find_opt())
    except ToolError:
        return False


@pytest.mark.parametrize("text", [text for text in EVERY if is_quick(text)])
def test_an_example_that_needs_no_run_does_what_it_says(text, recipes, tmp_path, root, request):
    run_example(text, recipes, tmp_path, root, request)


@pytest.mark.slow(reason=SLOW)
@pytest.mark.parametrize("text", [text for text in EVERY if not is_quick(text)])
def test_an_example_does_what_it_says(text, made, tmp_path, root, request):
    run_example(text, made, tmp_path, root, request)


def run_example(text, made, tmp_path, root, request):
    words = shlex.split(text)[1:]
    skip_without(words)
    environment = {}
    if text.removeprefix("picoquant ").startswith(NEEDS_OPT):
        environment["PICOQUANT_LITE_OPT"] = str(request.getfixturevalue("opt").path)
    if words[0] == "toolchain" and not any(own_environments()):
        pytest.skip("would fetch Paddle Lite's packages; `make toolchain` does")
    home = tmp_path / "home"
    shutil.copytree(made, home)
    if words[0] in STAGES:
        shutil.rmtree(home / "output" / STAGES[words[0]], ignore_errors=True)
    if "picodet.onnx" in words:
        write_onnx(home)
    package = root
    if words[:2] == ["targets", "refresh"]:  # it writes into the shipped profiles: into a copy of them
        package = tmp_path / "copy"
        for part in ("picoquant", "configs", "recipes", "calib", "npu_targets"):
            shutil.copytree(root / part, package / part)
    done = picoquant(*words, cwd=home, PYTHONPATH=str(package), **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout or done.stderr
    others = {"--backend", "--target", "--weights", "--ladder", "--slice", "--acuity", "--fidelity"}
    elsewhere = others & set(words)
    if words[0] in STAGES and not elsewhere:
        assert any((home / "output" / STAGES[words[0]]).iterdir())


def skip_without(words):
    """Skip what needs a vendor's tool or a camera that is not here."""
    for word, toolchain in (("--acuity", acuity), ("--emulator", verisilicon)):
        if word in words:
            try:
                toolchain.find(Machine())
            except ToolError as error:
                pytest.skip(str(error))
    if words[:2] == ["predict", "0"] and not Path("/dev/video0").exists():
        pytest.skip("there is no camera: no /dev/video0")


def write_onnx(home):
    """`picodet.onnx` of a network with three classes, as paddle2onnx writes it."""
    import onnx

    from picoquant import build_detector
    from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
    from picoquant.export import InferConfig
    from picoquant.export.paddle_export import export_model

    model = build_detector(str(home / "picodet_s_416_coco_npu.yml"), num_classes=3)
    model.eval()
    made = export_model(model, home / "float", "boxes", (64, 64), InferConfig((64, 64), ("a", "b", "c")))
    onnx.save(paddle_to_onnx(made.model, made.params), home / "picodet.onnx")
