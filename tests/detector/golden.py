"""Golden outputs of PaddleDetection: networks filled as `alignment/README.md` says."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.config.detector import load_detector
from picoquant.detector.picodet import PicoDet


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
