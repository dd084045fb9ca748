"""Settings of the heads, by their PaddleDetection names and keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from picoquant.detector.settings.checks import ACTIVATIONS, choice, expect, flags, indices, numbers, whole
from picoquant.detector.settings.training import (
    ATSSAssigner,
    BoxLoss,
    DistributionFocalLoss,
    GIoULoss,
    QualityFocalLoss,
    SimOTAAssigner,
    TaskAlignedAssigner,
    VarifocalLoss,
)
from picoquant.errors import ConfigError
from picoquant.postprocess.settings import NmsSettings


@dataclass(frozen=True)
class PicoFeat:
    """The convolutions of a head; see `heads.pico_feat`.

    `feat_in` has the default of `feat_out`, since PaddleDetection's own default, 256, fits no network.
    `kernel_size` is not a key of PaddleDetection; its heads of August 2021 have 3 and the activation
    `leaky_relu_0.1`.
    """

    feat_in: int = 96
    feat_out: int = 96
    num_fpn_stride: int = 3
    num_convs: int = 2
    norm_type: str = "bn"
    share_cls_reg: bool = False
    act: str = "hard_swish"
    use_se: bool = False
    kernel_size: int = 5

    def __post_init__(self) -> None:
        whole(self, ["feat_in", "feat_out", "num_fpn_stride", "num_convs", "kernel_size"])
        choice(self, "norm_type", ("bn", "sync_bn", "gn"))
        choice(self, "act", ("hard_swish", "relu6", "leaky_relu", "leaky_relu_0.1"))
        flags(self)
        if self.use_se and not self.share_cls_reg:
            raise ConfigError("PicoFeat: use_se: true needs share_cls_reg: true")
        if self.feat_in != self.feat_out:
            raise ConfigError(
                f"PicoFeat: feat_in {self.feat_in} and feat_out {self.feat_out} must be equal (the "
                "first convolution of a level is depthwise, the second takes its output)"
            )


@dataclass(frozen=True)
class _Head:
    conv_feat: PicoFeat | None = None
    fpn_stride: tuple[int, ...] = (8, 16, 32)
    prior_prob: float = 0.01
    loss_dfl: DistributionFocalLoss = DistributionFocalLoss()
    loss_bbox: BoxLoss = GIoULoss()
    reg_max: int = 16
    feat_in_chan: int = 96
    nms: NmsSettings = NmsSettings(score_threshold=0.05, nms_threshold=0.5, nms_top_k=-1)
    cell_offset: float = 0

    def __post_init__(self) -> None:
        name = type(self).__name__
        expect(self, "conv_feat", self.conv_feat is not None, "a PicoFeat")
        indices(self, "fpn_stride", 1, 1024)
        whole(self, ["reg_max", "feat_in_chan"])
        numbers(self, ["prior_prob"], 1e-6, 0.999999)
        numbers(self, ["cell_offset"], 0, 1)
        flags(self)
        if self.conv_feat.feat_out != self.feat_in_chan:
            raise ConfigError(
                f"{name}: feat_in_chan {self.feat_in_chan} and its conv_feat.feat_out "
                f"{self.conv_feat.feat_out} must be equal"
            )
        if self.conv_feat.num_fpn_stride < len(self.fpn_stride):
            raise ConfigError(
                f"{name}: conv_feat.num_fpn_stride is {self.conv_feat.num_fpn_stride}, too few for "
                f"{len(self.fpn_stride)} levels of fpn_stride"
            )


@dataclass(frozen=True)
class PicoHeadV2(_Head):
    """The 2022 head; see `heads.pico_head_v2`."""

    use_align_head: bool = True
    loss_class: VarifocalLoss = field(default_factory=lambda: VarifocalLoss(use_sigmoid=False))
    static_assigner_epoch: int = 60
    static_assigner: ATSSAssigner = ATSSAssigner()
    assigner: TaskAlignedAssigner = TaskAlignedAssigner()
    act: str = "hard_swish"
    grid_cell_scale: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, ["static_assigner_epoch"], 0)
        numbers(self, ["grid_cell_scale"], 0.01)
        choice(self, "act", ACTIVATIONS)
        if self.loss_class.use_sigmoid:
            raise ConfigError(
                "PicoHeadV2.loss_class.use_sigmoid: expected false (its scores are probabilities "
                "already), found true"
            )


@dataclass(frozen=True)
class PicoHead(_Head):
    """The 2021 heads; see `heads.pico_head`.

    `grid_cell_scale` is the width of ATSSAssigner's anchors in strides; in PaddleDetection it is a key of
    the reader (Gt2GFLTarget).
    """

    loss_class: Union[VarifocalLoss, QualityFocalLoss] = VarifocalLoss()
    assigner: Union[SimOTAAssigner, ATSSAssigner] = SimOTAAssigner()
    grid_cell_scale: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers(self, ["grid_cell_scale"], 0.01)
        if not self.loss_class.use_sigmoid:
            raise ConfigError(
                "PicoHead.loss_class.use_sigmoid: expected true (it predicts logits), found false"
            )
