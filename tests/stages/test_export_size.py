"""Which of several sizes an export has: Global.input_size, TestReader.inputs_def.image_shape, EvalReader's Resize."""

from __future__ import annotations

import pytest
import yaml

from picoquant.errors import ConfigError
from picoquant.paddle_program.program import program_facts
from picoquant.stages.plan import load_plan
from tests.command_line import picoquant
from tests.data.coco_sets import write_set

SHAPE = "TestReader.inputs_def.image_shape"
RESIZE = "EvalReader.sample_transforms.1.Resize.target_size"
OTHER = f"from {SHAPE}; EvalReader's Resize says 416x416"


@pytest.mark.parametrize(
    ("sets", "size", "said"),
    [
        ([], (416, 416), ""),
        ([f"{SHAPE}=[1,3,320,320]"], (320, 320), f"320x320 (height x width), {OTHER}"),
        ([f"{SHAPE}=[3,320,256]"], (320, 256), f"320x256 (height x width), {OTHER}"),
        ([f"{SHAPE}=[-1,3,192,640]"], (192, 640), f"192x640 (height x width), from {SHAPE}"),
        ([f"{SHAPE}=[null,3,64,96]"], (64, 96), f"64x96 (height x width), from {SHAPE}"),
        ([f"{SHAPE}=[1,3,-1,-1]"], (416, 416), ""),
        ([f"{SHAPE}=null"], (416, 416), ""),
        (["TestReader.inputs_def=null"], (416, 416), ""),
        (["TestReader=null"], (416, 416), ""),
        ([f"{SHAPE}=[1,3,416,416]", f"{RESIZE}=[320,320]"], (416, 416), f"{SHAPE}; EvalReader's Resize says 320x320"),
        ([f"{SHAPE}=[1,3,320,320]", f"{RESIZE}=[320,320]"], (320, 320), ""),
        (["Global.input_size=[256,320]"], (256, 320), f"from Global.input_size; {SHAPE} says 416x416"),
        (["Global.input_size=320", f"{SHAPE}=[1,3,320,320]"], (320, 320), ""),
        (["EvalReader.sample_transforms=[{Decode: {}}]", f"{SHAPE}=[1,3,64,96]"], (64, 96), ""),
    ],
)  # fmt: skip
def test_the_size_that_wins_and_what_is_said(sets, size, said):
    plan = load_plan("picodet_s_416_coco_npu", sets)
    found, line = plan.export_size
    assert found == size == plan.preprocessing["input_size"] == plan.infer_config(["a"]).input_size
    assert said in line and bool(said) == bool(line)


def test_training_keeps_the_size_of_its_evaluation():
    assert load_plan("picodet_s_416_coco_npu", [f"{SHAPE}=[1,3,320,320]"]).input_size == (416, 416)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("[1,3,300,320]", r"image_shape: 300 is not a multiple of 32 from 64 .*; the nearest is 288"),
        ("[1,3,32,320]", "image_shape: 32 is not a multiple of 32 from 64"),
        ("[320,320]", r"expected \[3, height, width\] or \[1, 3, height, width\], found \[320, 320\]"),
        ("320", r"expected \[3, height, width\]"),
        ("[1,1,320,320]", r"expected \[3, height, width\]"),
        ("[1,3,a,320]", r"image_shape: expected \[height, width\], found \['a', 320\]"),
        ("[1,3,-1,320]", "image_shape: -1 is not a multiple"),
    ],
)
def test_shapes_that_are_none(shape, message):
    with pytest.raises(ConfigError, match=f"TestReader.inputs_def.*{message}"):
        assert load_plan("picodet_s_416_coco_npu", [f"{SHAPE}={shape}"]).export_size


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import paddle

    import picoquant

    path = tmp_path_factory.mktemp("weights") / "random.pdparams"
    paddle.save(picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=2).state_dict(), str(path))
    return path


def test_image_shape_sets_the_size_of_an_export(weights, tmp_path):
    data = write_set(tmp_path / "data", 2)
    done = picoquant(
        "export", "-c", "picodet_s_416_coco_npu", "--save-dir", tmp_path / "out",
        "-o", "TestReader.inputs_def.image_shape=[1,3,64,96]", f"Global.weights={weights}", "worker_num=0",
        *(f"EvalDataset.{key}={getattr(data, key)}" for key in ("dataset_dir", "image_dir", "anno_path")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out/export"
    config = yaml.safe_load((folder / "infer_cfg.yml").read_text())
    assert config["Preprocess"][0]["target_size"] == [64, 96] and config["label_list"] == ["seven", "three"]
    assert dict(program_facts(folder / "model.pdmodel").inputs)["image"][1:] == (3, 64, 96)
    said = (
        "export: input of 64x96 (height x width), from TestReader.inputs_def.image_shape; EvalReader's Resize"
    )
    assert f"{said} says 416x416" in done.stderr
