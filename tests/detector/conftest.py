"""Small networks for the detector's tests, and PaddleDetection's golden ones."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import pytest

from picoquant.config.detector import load_detector
from picoquant.detector.picodet import PicoDet

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


def fill_value(name: str, shape: list[int]) -> np.ndarray:
    """The value of one tensor, from its own name."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    count = int(np.prod(shape))
    if name.endswith("_mean"):
        values = 0.1 * random.randn(count)
    elif name.endswith("_variance"):
        values = 0.5 + random.rand(count)
    elif len(shape) == 4:
        values = random.randn(count) * np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
    elif len(shape) == 2:
        values = random.randn(count) * np.sqrt(1 / shape[0])
    elif name.endswith("bias"):
        values = 0.05 * random.randn(count)
    else:
        values = 0.5 + random.rand(count)
    return values.reshape(shape).astype(np.float32)


class Golden:
    """One golden network and what PaddleDetection made of it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.facts: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
        self.arrays: Mapping[str, np.ndarray] = np.load(folder / f"{name}.npz")

    def config(self) -> dict[str, Any]:
        """The network's part of the configuration, as PaddleDetection writes it."""
        parts = {key: self.facts["hyperparameters"][key] for key in ("backbone", "neck", "head")}
        sections = {part["name"]: {k: v for k, v in part.items() if k != "name"} for part in parts.values()}
        names = {key: part["name"] for key, part in parts.items()}
        return {"architecture": "PicoDet", "PicoDet": names, "num_classes": 80, **sections}

    def model(self) -> PicoDet:
        """The network, filled."""
        model = load_detector(self.config())
        state = {
            name: fill_value(name, list(value.shape))
            for name, value in model.state_dict().items()
            if name not in self.facts["constant_state"]
        }
        state = {name: paddle.to_tensor(value) for name, value in state.items()}
        model.set_state_dict({**model.state_dict(), **state})
        return model

    @property
    def image(self) -> paddle.Tensor:
        size = (2, 3, 192, 192)
        return paddle.to_tensor(np.random.RandomState(7).rand(*size).astype(np.float32))

    def truth(self) -> dict[str, paddle.Tensor]:
        """The ground truth, by the names of `PicoDet.loss`."""
        names = ("gt_bbox", "gt_class", "pad_gt_mask")
        return {name: paddle.to_tensor(self.arrays[name]) for name in names}


@pytest.fixture(scope="session")
def golden_network(shared) -> Callable[[str], Golden]:
    """By name, a golden network of `alignment/`; its README says how they are filled."""
    return lambda name: Golden(shared / "alignment", name)
