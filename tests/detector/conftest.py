"""Small networks for the detector's tests."""

from __future__ import annotations

import copy
from typing import Any

import pytest

SMALL: dict[str, Any] = {
    "architecture": "PicoDet",
    "num_classes": 2,
    "PicoDet": {"backbone": "LCNet", "neck": "LCPAN", "head": "PicoHeadV2"},
    "LCNet": {"scale": 0.35, "feature_maps": [3, 4, 5]},
    "LCPAN": {"out_channels": 32, "num_features": 4},
    "PicoHeadV2": {
        "conv_feat": {
            "name": "PicoFeat",
            "feat_in": 32,
            "feat_out": 32,
            "num_convs": 1,
            "num_fpn_stride": 4,
            "share_cls_reg": True,
            "use_se": True,
        },
        "fpn_stride": [8, 16, 32, 64],
        "feat_in_chan": 32,
        "reg_max": 7,
        "cell_offset": 0.5,
        "static_assigner_epoch": 100,
        "loss_class": {"name": "VarifocalLoss", "use_sigmoid": False},
    },
}


@pytest.fixture
def small() -> dict[str, Any]:
    """A configuration of a network that is quick to build; a copy of its own for each test."""
    return copy.deepcopy(SMALL)


@pytest.fixture
def october_2021(small) -> dict[str, Any]:
    """The small network with the head of October 2021: SimOTA, varifocal loss on logits."""
    head = small.pop("PicoHeadV2")
    del head["static_assigner_epoch"], head["conv_feat"]["use_se"]
    head["loss_class"]["use_sigmoid"] = True
    small["PicoDet"]["head"] = "PicoHead"
    return {**small, "PicoHead": head}


@pytest.fixture
def august_2021() -> dict[str, Any]:
    """A network of August 2021 as its files describe it: PAN, ATSS in the reader, `loss_qfl`."""
    return {
        "architecture": "GFL",
        "num_classes": 2,
        "GFL": {"backbone": "ShuffleNetV2", "neck": "PAN", "head": "PicoHead"},
        "ShuffleNetV2": {"scale": 0.25, "feature_maps": [5, 13, 17], "act": "leaky_relu"},
        "PAN": {"out_channel": 32, "start_level": 0, "end_level": 3},
        "PicoHead": {
            "conv_feat": {
                "name": "PicoFeat",
                "feat_in": 32,
                "feat_out": 32,
                "num_convs": 2,
                "norm_type": "bn",
                "share_cls_reg": True,
            },
            "fpn_stride": [8, 16, 32],
            "feat_in_chan": 32,
            "reg_max": 7,
            "cell_offset": 0.5,
            "loss_qfl": {"name": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0},
            "loss_dfl": {"name": "DistributionFocalLoss", "loss_weight": 0.25},
            "loss_bbox": {"name": "GIoULoss", "loss_weight": 2.0},
            "nms": {"name": "MultiClassNMS", "nms_top_k": 1000, "score_threshold": 0.025},
        },
        "TrainReader": {
            "batch_transforms": [
                {"PadBatch": {"pad_to_stride": 32}},
                {"Gt2GFLTarget": {"downsample_ratios": [8, 16, 32], "grid_cell_scale": 4}},
            ]
        },
    }
