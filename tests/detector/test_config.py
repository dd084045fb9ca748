"""From a configuration to settings: defaults, components, keys nobody knows."""

from __future__ import annotations

import paddle
import pytest

from picoquant.config.detector import load_detector, parse_detector
from picoquant.detector import settings as s
from picoquant.detector.settings import backbones
from picoquant.errors import ConfigError
from picoquant.yaml_files.load import Tagged


def test_absent_keys_take_paddledetections_defaults(small):
    found = parse_detector(small)
    assert found.backbone == backbones.LCNet(scale=0.35, feature_maps=(3, 4, 5), act="hard_swish")
    assert (found.neck.kernel_size, found.neck.use_depthwise) == (5, True)
    head = found.head
    assert (head.assigner.topk, head.static_assigner.topk, head.prior_prob) == (13, 9, 0.01)
    assert head.loss_bbox == s.GIoULoss(loss_weight=1.0)
    assert (found.nms.score_threshold, found.nms.nms_threshold, found.nms.nms_top_k) == (0.05, 0.5, -1)


def test_number_of_classes(small):
    assert parse_detector(small).num_classes == 2
    assert parse_detector(small, 7).num_classes == 7
    del small["num_classes"]
    assert parse_detector(small).num_classes == 80


def test_component_by_tag_or_section(small):
    small["GIoULoss"] = {"loss_weight": 3.0}
    small["PicoHeadV2"]["loss_bbox"] = Tagged("GIoULoss")
    small["PicoHeadV2"]["loss_dfl"] = Tagged("DistributionFocalLoss", {"loss_weight": 0.25})
    head = parse_detector(small).head
    assert (head.loss_bbox.loss_weight, head.loss_dfl.loss_weight) == (3.0, 0.25)
    small["PicoHeadV2"]["loss_bbox"] = {"name": "GIoULoss", "loss_weight": 2.5}
    assert parse_detector(small).head.loss_bbox.loss_weight == 2.5


def test_keys_without_a_meaning_are_accepted(small):
    small["PicoHeadV2"].update(nms_pre=1000, eval_size=[320, 320], dgqp_module=None)
    small["PicoHeadV2"]["static_assigner"] = {"name": "ATSSAssigner", "num_classes": 80}
    parse_detector(small)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("LCNet", {"scael": 1.0}, r"LCNet: unknown key scael .did you mean scale"),
        ("LCNet", {"scale": "large"}, r"LCNet.scale: expected a number"),
        ("LCNet", {"act": "swish"}, r"LCNet.act: expected one of hard_swish, relu6, found 'swish'"),
        ("LCNet", {"feature_maps": [3, 9]}, r"LCNet.feature_maps: expected a growing list"),
        ("LCPAN", {"out_channels": 64}, r"feat_in 32 and LCPAN.out_channels 64 must be equal"),
        ("LCPAN", {"num_features": 3}, r"fpn_stride names 4 levels, LCPAN gives 3"),
        ("PicoHeadV2", {"feat_in_chan": 48}, r"feat_in_chan 48 and its conv_feat.feat_out 32"),
        ("PicoHeadV2", {"reg_max": 0}, r"PicoHeadV2.reg_max: expected a whole number from 1"),
        ("PicoHeadV2", {"loss_bbox": "GIouLoss"}, r"loss_bbox: found GIouLoss .did you mean"),
        ("PicoHeadV2", {"loss_class": "VarifocalLoss"}, r"use_sigmoid: expected false"),
        ("PicoHeadV2", {"dgqp_module": "DGQP"}, r"PicoHeadV2.dgqp_module: 'DGQP' is not supported"),
        ("PicoHeadV2", {"nms": {"name": "MultiClassNMS", "nms_topk": 5}}, r"did you mean nms_top_k"),
        ("PicoDet", {"neck": "CSPPan"}, r"PicoDet.neck: found CSPPan .did you mean CSPPAN"),
        ("PicoDet", {"backbone": "LCNett"}, r"PicoDet.backbone: found LCNett .did you mean LCNet"),
        ("PicoDet", {"transformer": "X"}, r"PicoDet: unknown key transformer"),
    ],
)
def test_what_cannot_be_used_is_named(small, section, values, message):
    small[section] = {**small[section], **values}
    with pytest.raises(ConfigError, match=message):
        load_detector(small)


def test_other_architectures_are_refused(small):
    with pytest.raises(ConfigError, match="architecture: YOLOv3"):
        parse_detector({**small, "architecture": "YOLOv3"})
    with pytest.raises(ConfigError, match="no section PicoDet"):
        parse_detector({"num_classes": 3})


def test_files_of_august_2021(august_2021):
    head = parse_detector(august_2021).head
    assert head.loss_class == s.QualityFocalLoss()
    assert head.assigner == s.ATSSAssigner()
    assert (head.conv_feat.kernel_size, head.conv_feat.act) == (3, "leaky_relu_0.1")
    assert head.grid_cell_scale == 4  # the reader's
    model = load_detector(august_2021)
    assert model.strides == (8, 16, 32)
    state = model.state_dict()
    assert state["neck.pan_lateral0.weight"].shape == [32, 24, 1, 1]
    assert state["head.conv_feat.cls_conv_dw0.0.conv.weight"].shape == [32, 1, 3, 3]
    assert state["head.head_cls0.weight"].shape == [2 + 32, 32, 1, 1]


@pytest.mark.parametrize(
    ("name", "values", "channels"),
    [
        ("ESNet", {"scale": 0.75, "channel_ratio": [0.5] * 13}, [96, 192, 384]),
        ("ShuffleNetV2", {"scale": 1.5}, [176, 352, 704]),
        ("MobileNetV3", {"scale": 0.5, "feature_maps": [7, 13, 16]}, [24, 56, 80]),
        ("MobileNetV3", {"model_name": "small", "feature_maps": [4, 9, 12]}, [24, 48, 96]),
        ("ResNet", {"depth": 18, "variant": "d", "return_idx": [1, 2, 3]}, [128, 256, 512]),
        ("ResNet", {"depth": 50, "return_idx": [1, 2, 3]}, [512, 1024, 2048]),
        ("LCNet", {"scale": 2.5}, [320, 640, 1280]),
    ],
)
def test_backbones(small, name, values, channels):
    """Channels as in the papers, strides 8, 16 and 32."""
    small["PicoDet"]["backbone"] = name
    backbone = load_detector({**small, name: values}).backbone
    backbone.eval()
    assert backbone.out_channels == channels
    maps = backbone(paddle.zeros([1, 3, 64, 96]))
    assert [x.shape for x in maps] == [[1, c, 64 // s, 96 // s] for c, s in zip(channels, (8, 16, 32))]


def test_frozen_resnet_trains_nothing_there(small):
    small["PicoDet"]["backbone"] = "ResNet"
    values = {"depth": 18, "return_idx": [1, 2, 3], "freeze_at": 1, "freeze_norm": True}
    backbone = load_detector({**small, "ResNet": values}).backbone
    trained = {name for name, p in backbone.named_parameters() if not p.stop_gradient}
    assert trained  # stages 4 and 5, convolutions only
    assert all(name.startswith(("res4", "res5")) and ".conv." in name for name in trained)


def test_shipped_configuration_by_name():
    model = load_detector("picodet_s_416_coco_npu", num_classes=3)
    assert model.num_classes == 3
    assert model.strides == (8, 16, 32, 64)
