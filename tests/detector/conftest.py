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
