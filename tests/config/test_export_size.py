"""Which of several sizes an export has: Global.input_size, TestReader.inputs_def.image_shape, EvalReader's Resize."""

from __future__ import annotations

import pytest

from picoquant.config.data import export_size, input_size, preprocessing
from picoquant.config.recipe import load_recipe
from picoquant.errors import ConfigError

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
    recipe = load_recipe("picodet_s_416_coco_npu", sets)
    found, line = export_size(recipe)
    assert found == size == preprocessing(recipe)["input_size"]
    assert said in line and bool(said) == bool(line)


def test_training_keeps_the_size_of_its_evaluation():
    assert input_size(load_recipe("picodet_s_416_coco_npu", [f"{SHAPE}=[1,3,320,320]"])) == (416, 416)


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
        export_size(load_recipe("picodet_s_416_coco_npu", [f"{SHAPE}={shape}"]))
