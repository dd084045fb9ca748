"""Weights with mmdet's names: each name has one of ours, and the network computes what mmdet's does.

The numbers were computed by torch 2.13 with the classes of github.com/Bo396543018/Picodet_Pytorch (ESNet 's', CSPPAN,
PicoDetHead), whose weights were drawn as `drawn` does, by mmdet's own names of them.
"""

from __future__ import annotations

import zlib

import numpy as np
import paddle
import pytest

import picoquant
from picoquant.detector.weights import load_backbone_weights, load_weights, save_weights
from picoquant.errors import UserError
from picoquant.weight_files.files import read_weights
from picoquant.weight_files.mmdet import from_mmdet, to_mmdet
from tests.weight_files.torch_file import StateDict, Tensor, write_pth

CONFIG = "picodet_s_320_coco.yml"  # of 2021.10
# Of each level: the class logits [0, -1, -1], [17, 0, 0] and [79, -1, -1], the box logits [0, 0, 0] and [31, -1, -1],
# and the mean of all of them without their signs.
MMDET = [
    [-0.03373, 0.06302, -0.04332, -0.32946, -0.38375, 0.23464],
    [-0.42967, -0.09481, -0.02447, 0.04196, 0.08776, 0.15084],
    [0.07796, -0.01634, 0.0107, 0.11274, 0.18012, 0.15022],
    [-0.17985, 0.05077, -0.02436, 0.09044, 0.12928, 0.16108],
]


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("integral.project"):
        return np.arange(8, dtype="f4")
    if len(shape) == 4:
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype("f4")
    spread = name.endswith(("running_var", "bn.weight"))
    return rng.uniform(0.5 if spread else -0.2, 1.5 if spread else 0.2, shape).astype("f4")


@pytest.fixture(scope="module")
def model():
    paddle.seed(1)
    return picoquant.build_detector(CONFIG, 80)


@pytest.fixture(scope="module")
def own(model):
    return {name: np.array(value) for name, value in model.state_dict().items()}


@pytest.fixture(scope="module")
def theirs(own):
    return {name: drawn(name, value.shape) for name, value in to_mmdet(own).items()}


def test_every_name_has_one_of_mmdets_and_back(own):
    named = to_mmdet(own)
    assert len(named) == len(own) - 4  # without the factors of four levels
    for name in (
        "backbone.conv1.conv.weight", "backbone.2_1.conv_dw_mv1.bn.running_var", "backbone.4_3.se.conv2.conv.bias",
        "neck.trans.trans.2.bn.running_mean", "neck.first_top_conv.depthwise_conv.bn.weight",
        "neck.bottom_up_blocks.1.blocks.0.conv2.pointwise_conv.conv.weight",
        "bbox_head.cls_convs.3.1.pointwise_conv.bn.bias", "bbox_head.gfl_cls.0.bias", "bbox_head.integral.project",
    ):  # fmt: skip
        assert name in named
    back = from_mmdet(named)
    assert back.keys() == own.keys() and all(np.array_equal(back[name], own[name]) for name in own)
    assert from_mmdet(own).keys() == own.keys()


def test_the_network_computes_what_mmdets_does(model, theirs, tmp_path):
    state = StateDict({name: Tensor(value) for name, value in theirs.items()})
    state["backbone.conv1.bn.num_batches_tracked"] = Tensor(np.array(5), "LongStorage")
    state["ema_backbone_conv1_conv_weight"] = Tensor(np.zeros(3, np.float32))
    write_pth(tmp_path / "picodet_s_320.pth", {"meta": {"epoch": 300}, "state_dict": state})
    report = load_weights(model, tmp_path / "picodet_s_320.pth")
    assert (report.loaded, report.skipped) == (580, ())
    model.eval()
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 96, 64)).astype("f4")
    classes, boxes = model.head.levels(model.neck(model.backbone(paddle.to_tensor(image))))
    for level, expected in enumerate(MMDET):
        scores, sides = classes[level].numpy()[0], boxes[level].numpy()[0]
        mean = np.abs(np.concatenate([scores, sides])).mean()
        found = [
            scores[0, -1, -1],
            scores[17, 0, 0],
            scores[79, -1, -1],
            sides[0, 0, 0],
            sides[31, -1, -1],
            mean,
        ]
        assert found == pytest.approx(expected, abs=1e-4)
    save_weights(model, tmp_path / "back.pth")
    again = read_weights(tmp_path / "back.pth")
    assert all(np.array_equal(again[name], value.numpy()) for name, value in model.state_dict().items())


def test_a_backbone_alone(model, theirs, tmp_path):
    start = "backbone."
    alone = {name[len(start) :]: Tensor(value) for name, value in theirs.items() if name.startswith(start)}
    write_pth(tmp_path / "ESNet_x0_75_pretrained_mmdet_format.pth", alone)
    report = load_backbone_weights(model, tmp_path / "ESNet_x0_75_pretrained_mmdet_format.pth")
    assert report.loaded == len(alone)
    weight = model.backbone.state_dict()["_conv1._conv.weight"].numpy()
    np.testing.assert_array_equal(weight, theirs["backbone.conv1.conv.weight"])


def test_what_mmdet_has_not(own):
    scaled = {**own, "head.p3_feat.scale_reg": np.array([1.1], np.float32)}
    with pytest.raises(
        UserError, match="head.p3_feat.scale_reg is not 1, and mmdet's PicoDet has no such factor"
    ):
        to_mmdet(scaled)
    newer = picoquant.build_detector("picodet_s_416_coco_npu.yml", 3)
    with pytest.raises(
        UserError, match="mmdet's PicoDet has no name for it; .pth is for ESNet, CSPPAN and PicoHead"
    ):
        to_mmdet({name: np.array(value) for name, value in newer.state_dict().items()})
