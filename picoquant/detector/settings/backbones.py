"""Settings of the backbones, by their PaddleDetection names and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from picoquant.detector.settings.checks import (
    ACTIVATIONS,
    choice,
    flags,
    indices,
    number_list,
    numbers,
    whole,
)


@dataclass(frozen=True)
class LCNet:
    """PP-LCNet; `feature_maps` m has stride 2 ** m."""

    scale: float = 1.0
    feature_maps: tuple[int, ...] = (3, 4, 5)
    act: str = "hard_swish"

    def __post_init__(self) -> None:
        numbers(self, ["scale"], 0.01, 100)
        indices(self, "feature_maps", 2, 5)
        choice(self, "act", ("hard_swish", "relu6"))


@dataclass(frozen=True)
class ShuffleNetV2:
    """ShuffleNetV2; `feature_maps` counts the units from 2."""

    scale: float = 1.0
    act: str = "relu"
    feature_maps: tuple[int, ...] = (5, 13, 17)

    def __post_init__(self) -> None:
        choice(self, "scale", (0.25, 0.33, 0.5, 1.0, 1.5, 2.0))
        choice(self, "act", ACTIVATIONS)
        indices(self, "feature_maps", 2, 17)


@dataclass(frozen=True)
class ESNet:
    """Enhanced ShuffleNet; `channel_ratio` is the inner width of each of its 13 units."""

    scale: float = 1.0
    act: str = "hard_swish"
    feature_maps: tuple[int, ...] = (4, 11, 14)
    channel_ratio: tuple[float, ...] = (1.0,) * 13

    def __post_init__(self) -> None:
        numbers(self, ["scale"], 0.01, 100)
        choice(self, "act", ACTIVATIONS)
        indices(self, "feature_maps", 2, 14)
        number_list(self, "channel_ratio", 13)


@dataclass(frozen=True)
class MobileNetV3:
    """MobileNetV3; `feature_maps` counts the blocks from 2, PaddleDetection's extra blocks excepted."""

    scale: float = 1.0
    model_name: str = "large"
    feature_maps: tuple[int, ...] = (6, 12, 15)
    lr_mult_list: tuple[float, ...] = (1.0,) * 5
    conv_decay: float = 0.0
    multiplier: float = 1.0
    norm_decay: float = 0.0
    freeze_norm: bool = False

    def __post_init__(self) -> None:
        numbers(self, ["scale", "multiplier"], 0.01, 100)
        numbers(self, ["conv_decay", "norm_decay"], 0)
        choice(self, "model_name", ("large", "small"))
        indices(self, "feature_maps", 2, 16 if self.model_name == "large" else 12)
        number_list(self, "lr_mult_list")
        flags(self)


@dataclass(frozen=True)
class ResNet:
    """ResNet; stage i of `return_idx` has stride 4 * 2 ** i."""

    depth: int = 50
    ch_in: int = 64
    variant: str = "b"
    lr_mult_list: tuple[float, ...] = (1.0,) * 4
    norm_decay: float = 0.0
    freeze_norm: bool = True
    freeze_at: int = 0
    return_idx: tuple[int, ...] = (0, 1, 2, 3)
    num_stages: int = 4

    def __post_init__(self) -> None:
        choice(self, "depth", (18, 34, 50, 101, 152))
        choice(self, "variant", ("a", "b", "c", "d"))
        choice(self, "num_stages", (1, 2, 3, 4))
        whole(self, ["ch_in"], 2)
        whole(self, ["freeze_at"], -1)
        numbers(self, ["norm_decay"], 0)
        indices(self, "return_idx", 0, self.num_stages - 1)
        number_list(self, "lr_mult_list", 4)
        flags(self)


Backbone = Union[LCNet, ESNet, ShuffleNetV2, MobileNetV3, ResNet]
