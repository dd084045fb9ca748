"""The summary against a network small enough to count by hand, and against published figures."""

from __future__ import annotations

import json
import re

import paddle
import pytest
from click.testing import CliRunner
from paddle import nn

from picoquant.cli.info import info
from picoquant.config.detector import load_detector
from picoquant.detector.picodet import PicoDet
from picoquant.errors import ConfigError, UserError
from picoquant.summary import Memory, Part, Row, summarise
from picoquant.summary.table import text_table


class Backbone(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2D(3, 4, 3, 2, 1, bias_attr=False), nn.BatchNorm2D(4))
        self.second = nn.Conv2D(4, 8, 3, 2, 1, groups=4)

    def forward(self, x):
        return [self.second(self.first(x))]


class Neck(nn.Layer):
    def forward(self, maps):
        return maps


class Head(nn.Layer):
    num_classes, strides, reg_max, cell_offset = 2, (4,), 1, 0.5

    def __init__(self) -> None:
        super().__init__()
        self.classes, self.distances = nn.Linear(8, 2), nn.Linear(8, 8)

    def raw(self, maps):
        cells = [x.flatten(2).transpose([0, 2, 1]) for x in maps]
        return [self.classes(x) for x in cells], [self.distances(x) for x in cells]


@pytest.fixture
def small() -> PicoDet:
    return PicoDet(Backbone(), Neck(), Head())


def test_a_network_counted_by_hand(small):
    # Input 3 x 32 x 64.
    # first:     3 -> 4 channels, 3x3, stride 2: output 4 x 16 x 32 = 2048 values, each of 3*3*3 = 27
    #            multiply-accumulates: 55296. 4*27 = 108 weights; batch-norm 4 + 4, its statistics not.
    # second:    4 groups, 4 -> 8 channels: output 8 x 8 x 16 = 1024 values of 1*3*3 = 9: 9216. 72 + 8.
    # classes:   128 cells, 8 -> 2: 256 values of 8: 2048. 16 + 2.
    # distances: 128 cells, 8 -> 8: 1024 values of 8: 8192. 64 + 8.
    found = summarise(small, (32, 64))
    assert found.input_size == (32, 64)
    assert found.parts == (
        Part(
            "backbone",
            196,
            64512,
            (Row("stride 2", (4, 16, 32), 116, 55296), Row("stride 4", (8, 8, 16), 80, 9216)),
        ),
        Part("neck", 0, 0, (Row("stride 4", (8, 8, 16)),)),
        Part("head", 90, 10240, (Row("stride 4 scores", (128, 2)), Row("stride 4 distances", (128, 8)))),
    )
    assert (found.parameters, found.macs) == (286, 74752)
    # Weights 108 + 72 + 16 + 64 = 260; output channels 4 + 8 + 2 + 8 = 22, each with a bias of 4 bytes,
    # in INT8 also a scale of 4. Outputs 2048 + 1024 + 256 + 1024 = 4352. Most values: first, 6144 + 2048.
    assert found.memory == {
        "fp32": Memory(260 * 4 + 22 * 4, 4352 * 4, 8192 * 4),
        "int8": Memory(260 + 22 * 8, 4352, 8192),
    }


def test_the_network_stays_as_it_was(small):
    small.train()
    small.head.eval()
    before = {key: value.numpy() for key, value in small.state_dict().items()}
    once, again = summarise(small, (64, 64)), summarise(small, (64, 64))
    assert once == again
    assert small.training and small.backbone.first.training and not small.head.classes.training
    assert all((small.state_dict()[key].numpy() == value).all() for key, value in before.items())


def test_a_frozen_layer_counts(small):
    for value in small.backbone.second.parameters():
        value.stop_gradient = True
    assert summarise(small, (32, 64)).parameters == 286


def test_a_size_that_the_network_does_not_take(small):
    with pytest.raises(UserError, match="input size 33x64: height and width must be multiples of 32"):
        summarise(small, (33, 64))


@pytest.mark.parametrize(
    ("name", "size", "giga"),
    [
        ("picodet_xs_320_coco_lcnet", 320, 0.67),
        ("picodet_s_320_coco_lcnet", 320, 0.97),
        ("picodet_s_320_coco_lcnet", 416, 1.65),
        ("picodet_m_320_coco_lcnet", 320, 2.57),
        ("picodet_l_320_coco_lcnet", 320, 4.20),
    ],
)
def test_published_operations(name, size, giga):
    # PaddleDetection's table counts a multiplication and an addition as two operations.
    assert 2 * summarise(load_detector(name), (size, size)).macs / 1e9 == pytest.approx(giga, rel=0.05)


def test_stages_of_lcnet():
    # x0.75: 16, 32, 64, 128, 256, 512 channels become 12 -> 16 (multiples of 8, none 10 % smaller), 24, …
    backbone = summarise(load_detector("picodet_s_320_coco_lcnet"), (64, 96)).parts[0]
    assert [row.name for row in backbone.rows] == [f"stride {2**i}" for i in range(1, 6)]
    assert [row.shape for row in backbone.rows][2:] == [(96, 8, 12), (192, 4, 6), (384, 2, 3)]
    assert sum(row.macs for row in backbone.rows) == backbone.macs
    assert sum(row.parameters for row in backbone.rows) == backbone.parameters


@pytest.mark.parametrize(
    "name",
    [
        "picodet_s_320_coco",
        "picodet_r18_640_coco",
        "picodet_m_mbv3_320_coco",
        "picodet_s_shufflenetv2_320_coco",
    ],
)
def test_every_layer_of_every_backbone_is_in_a_stage(name):
    backbone = summarise(load_detector(name), (64, 64)).parts[0]
    assert backbone.rows[-1].name == "stride 32"
    assert sum(row.macs for row in backbone.rows) == backbone.macs
    assert sum(row.parameters for row in backbone.rows) == backbone.parameters


def test_the_table(small):
    text = text_table(summarise(small, (32, 64)), "small")
    assert text.startswith("small, input 32 x 64\n")
    assert re.search(r"^backbone +stride 2 +4 x 16 x 32 +116 +55\.30 k$", text, re.M)
    assert re.search(r"^head +together +90 +10\.24 k$", text, re.M)
    assert "parameters  286 " in text and "MACs        74,752 (multiply-accumulates of conv" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_command_as_json():
    result = CliRunner().invoke(
        info, ["-c", "picodet_s_416_coco_npu.yml", "--input-size", "96x64", "--json"], catch_exceptions=False
    )
    found = json.loads(result.output[result.output.index("{") :])
    assert found["config"] == "picodet_s_416_coco_npu.yml" and found["input_size"] == [96, 64]
    assert found["parts"][2]["rows"][0] == {
        "name": "stride 8 scores",
        "shape": [96, 80],  # 12 x 8 cells
        "parameters": None,
        "macs": None,
    }
    assert set(found["memory"]) == {"fp32", "int8"}


def test_the_command_takes_overrides_and_the_size_of_the_configuration():
    result = CliRunner().invoke(
        info, ["-c", "picodet_s_192_pedestrian", "num_classes=3"], catch_exceptions=False
    )
    assert "input 192 x 192" in result.output
    assert re.search(r"stride 8 scores +576 x 3\b", result.output)


def test_the_command_and_an_unknown_name():
    with pytest.raises(ConfigError, match=r"picodet_s_415.*did you mean"):
        CliRunner().invoke(info, ["-c", "picodet_s_415_coco"], catch_exceptions=False)


def test_no_gradients_are_kept(small):
    summarise(small, (32, 32))
    assert all(value.grad is None for value in small.parameters())
    assert paddle.is_grad_enabled()
