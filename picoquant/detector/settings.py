"""Settings of a detector: PaddleDetection's component names, keys and defaults.

Importing this imports no paddle. A dataclass is a component of that name; its fields are the keys a
configuration may set. Values are checked where a wrong one would otherwise fail late or quietly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Union

from picoquant.errors import ConfigError
from picoquant.postprocess.settings import NmsSettings


def _expect(settings: Any, name: str, correct: bool, what: str) -> None:
    if not correct:
        found = getattr(settings, name)
        raise ConfigError(f"{type(settings).__name__}.{name}: expected {what}, found {found!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(settings: Any, names: Iterable[str], low: float, high: float = float("inf")) -> None:
    limits = f"a number from {low:g}" + (f" to {high:g}" if high != float("inf") else "")
    for name in names:
        value = getattr(settings, name)
        _expect(settings, name, _is_number(value) and low <= value <= high, limits)


def _whole(settings: Any, names: Iterable[str], low: int = 1) -> None:
    for name in names:
        value = getattr(settings, name)
        correct = isinstance(value, int) and not isinstance(value, bool) and value >= low
        _expect(settings, name, correct, f"a whole number from {low}")


def _flags(settings: Any) -> None:
    for item in fields(settings):
        if item.type == "bool":
            value = getattr(settings, item.name)
            _expect(settings, item.name, isinstance(value, bool), "true or false")


def _choice(settings: Any, name: str, known: Iterable[Any]) -> None:
    known = tuple(known)
    what = "one of " + ", ".join("null" if value is None else str(value) for value in known)
    _expect(settings, name, getattr(settings, name) in known, what)


def _indices(settings: Any, name: str, low: int, high: int) -> None:
    """A growing list of whole numbers from `low` to `high`; a single number becomes a list."""
    value = getattr(settings, name)
    value = (value,) if isinstance(value, int) else value
    correct = (
        isinstance(value, (list, tuple))
        and all(isinstance(item, int) and low <= item <= high for item in value)
        and list(value) == sorted(set(value))
        and len(value) > 0
    )
    _expect(settings, name, correct, f"a growing list of whole numbers from {low} to {high}")
    object.__setattr__(settings, name, tuple(value))


def _number_list(settings: Any, name: str, length: int | None = None) -> None:
    """A list of numbers from 0, of `length` of them where that is given."""
    value = getattr(settings, name)
    correct = isinstance(value, (list, tuple)) and all(_is_number(item) and item >= 0 for item in value)
    correct = correct and len(value) in ((length,) if length else range(1, 1000))
    _expect(settings, name, correct, f"a list of {length or 'some'} numbers from 0")
    object.__setattr__(settings, name, tuple(value))


_ACTIVATIONS = ("hard_swish", "relu6", "leaky_relu", "relu")

# --------------------------------------------------------------------------------------- backbones


@dataclass(frozen=True)
class LCNet:
    """PP-LCNet; `feature_maps` m has stride 2 ** m."""

    scale: float = 1.0
    feature_maps: tuple[int, ...] = (3, 4, 5)
    act: str = "hard_swish"

    def __post_init__(self) -> None:
        _numbers(self, ["scale"], 0.01, 100)
        _indices(self, "feature_maps", 2, 5)
        _choice(self, "act", ("hard_swish", "relu6"))


@dataclass(frozen=True)
class ShuffleNetV2:
    """ShuffleNetV2; `feature_maps` counts the units from 2."""

    scale: float = 1.0
    act: str = "relu"
    feature_maps: tuple[int, ...] = (5, 13, 17)

    def __post_init__(self) -> None:
        _choice(self, "scale", (0.25, 0.33, 0.5, 1.0, 1.5, 2.0))
        _choice(self, "act", _ACTIVATIONS)
        _indices(self, "feature_maps", 2, 17)


@dataclass(frozen=True)
class ESNet:
    """Enhanced ShuffleNet; `channel_ratio` is the inner width of each of its 13 units."""

    scale: float = 1.0
    act: str = "hard_swish"
    feature_maps: tuple[int, ...] = (4, 11, 14)
    channel_ratio: tuple[float, ...] = (1.0,) * 13

    def __post_init__(self) -> None:
        _numbers(self, ["scale"], 0.01, 100)
        _choice(self, "act", _ACTIVATIONS)
        _indices(self, "feature_maps", 2, 14)
        _number_list(self, "channel_ratio", 13)


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
        _numbers(self, ["scale", "multiplier"], 0.01, 100)
        _numbers(self, ["conv_decay", "norm_decay"], 0)
        _choice(self, "model_name", ("large", "small"))
        _indices(self, "feature_maps", 2, 16 if self.model_name == "large" else 12)
        _number_list(self, "lr_mult_list")
        _flags(self)


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
        _choice(self, "depth", (18, 34, 50, 101, 152))
        _choice(self, "variant", ("a", "b", "c", "d"))
        _choice(self, "num_stages", (1, 2, 3, 4))
        _whole(self, ["ch_in"], 2)
        _whole(self, ["freeze_at"], -1)
        _numbers(self, ["norm_decay"], 0)
        _indices(self, "return_idx", 0, self.num_stages - 1)
        _number_list(self, "lr_mult_list", 4)
        _flags(self)


# ------------------------------------------------------------------------------------------- necks


@dataclass(frozen=True)
class LCPAN:
    """Path aggregation with PP-LCNet blocks; `num_features` 4 adds a level at twice the stride."""

    out_channels: int | None = None
    kernel_size: int = 5
    num_features: int = 3
    use_depthwise: bool = True
    act: str = "hard_swish"
    spatial_scales: tuple[float, ...] = (0.125, 0.0625, 0.03125)

    def __post_init__(self) -> None:
        _whole(self, ["out_channels", "kernel_size"])
        _choice(self, "num_features", (3, 4))
        _choice(self, "act", _ACTIVATIONS)
        _flags(self)
        object.__setattr__(self, "spatial_scales", tuple(self.spatial_scales))


@dataclass(frozen=True)
class CSPPAN(LCPAN):
    """Path aggregation with `num_csp_blocks` bottlenecks in each cross-stage partial layer."""

    num_csp_blocks: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _whole(self, ["num_csp_blocks"], 0)


@dataclass(frozen=True)
class PAN:
    """The neck of August 2021; see `necks.pan`."""

    out_channel: int | None = None
    spatial_scales: tuple[float, ...] = (0.125, 0.0625, 0.03125)

    def __post_init__(self) -> None:
        _whole(self, ["out_channel"])
        object.__setattr__(self, "spatial_scales", tuple(self.spatial_scales))

    @property
    def out_channels(self) -> int | None:
        """The same, by the name the other necks use."""
        return self.out_channel


# ------------------------------------------------------------------------------------------ losses


@dataclass(frozen=True)
class VarifocalLoss:
    """Of the classes; see `losses.varifocal`."""

    use_sigmoid: bool = True
    alpha: float = 0.75
    gamma: float = 2.0
    iou_weighted: bool = True
    reduction: str = "mean"
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        _numbers(self, ["alpha", "gamma", "loss_weight"], 0)
        _choice(self, "reduction", ("mean",))
        _flags(self)


@dataclass(frozen=True)
class QualityFocalLoss:
    """Of the classes; see `losses.quality_focal`."""

    use_sigmoid: bool = True
    beta: float = 2.0
    reduction: str = "mean"
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        _numbers(self, ["beta", "loss_weight"], 0)
        _choice(self, "reduction", ("mean",))
        _flags(self)


@dataclass(frozen=True)
class DistributionFocalLoss:
    """Of the distances' distributions; see `losses.distribution_focal`."""

    reduction: str = "mean"
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        _numbers(self, ["loss_weight"], 0)
        _choice(self, "reduction", ("mean",))


@dataclass(frozen=True)
class GIoULoss:
    """Of the boxes; the heads sum it over the points, so `reduction` can only be none."""

    loss_weight: float = 1.0
    eps: float = 1e-10
    reduction: str = "none"

    def __post_init__(self) -> None:
        _numbers(self, ["loss_weight", "eps"], 0)
        _choice(self, "reduction", ("none",))


@dataclass(frozen=True)
class SIoULoss(GIoULoss):
    """SCYLLA-IoU; `theta` is the exponent of the shape cost."""

    theta: float = 4.0


@dataclass(frozen=True)
class DIouLoss:
    """Distance-IoU, or complete IoU."""

    loss_weight: float = 1.0
    eps: float = 1e-10
    use_complete_iou_loss: bool = True

    def __post_init__(self) -> None:
        _numbers(self, ["loss_weight", "eps"], 0)
        _flags(self)


@dataclass(frozen=True)
class IouLoss:
    """1 - IoU of one kind (none of the three: plain IoU), squared or not."""

    loss_weight: float = 2.5
    giou: bool = False
    diou: bool = False
    ciou: bool = False
    loss_square: bool = True

    def __post_init__(self) -> None:
        _numbers(self, ["loss_weight"], 0)
        _flags(self)


BoxLoss = Union[GIoULoss, SIoULoss, DIouLoss, IouLoss]

# --------------------------------------------------------------------------------------- assigners


@dataclass(frozen=True)
class ATSSAssigner:
    """See `assigners.atss`."""

    topk: int = 9
    force_gt_matching: bool = False
    sm_use: bool = False

    def __post_init__(self) -> None:
        _whole(self, ["topk"])
        _flags(self)


@dataclass(frozen=True)
class TaskAlignedAssigner:
    """See `assigners.task_aligned`."""

    topk: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    eps: float = 1e-9

    def __post_init__(self) -> None:
        _whole(self, ["topk"])
        _numbers(self, ["alpha", "beta", "eps"], 0)


@dataclass(frozen=True)
class SimOTAAssigner:
    """See `assigners.simota`."""

    center_radius: float = 2.5
    candidate_topk: int = 10
    iou_weight: float = 3.0
    cls_weight: float = 1.0
    use_vfl: bool = True

    def __post_init__(self) -> None:
        _numbers(self, ["center_radius", "iou_weight", "cls_weight"], 0)
        _whole(self, ["candidate_topk"])
        _flags(self)


# ------------------------------------------------------------------------------------------- heads


@dataclass(frozen=True)
class PicoFeat:
    """The convolutions of a head; see `heads.pico_feat`.

    PaddleDetection's default for `feat_in`, 256, builds no network; 96 is `feat_out`'s. `kernel_size`
    is no key of PaddleDetection; its heads of August 2021 have 3 and the activation `leaky_relu_0.1`.
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
        _whole(self, ["feat_in", "feat_out", "num_fpn_stride", "num_convs", "kernel_size"])
        _choice(self, "norm_type", ("bn", "sync_bn", "gn"))
        _choice(self, "act", ("hard_swish", "relu6", "leaky_relu", "leaky_relu_0.1"))
        _flags(self)
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
        _expect(self, "conv_feat", self.conv_feat is not None, "a PicoFeat")
        _indices(self, "fpn_stride", 1, 1024)
        _whole(self, ["reg_max", "feat_in_chan"])
        _numbers(self, ["prior_prob"], 1e-6, 0.999999)
        _numbers(self, ["cell_offset"], 0, 1)
        _flags(self)
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
        _whole(self, ["static_assigner_epoch"], 0)
        _numbers(self, ["grid_cell_scale"], 0.01)
        _choice(self, "act", _ACTIVATIONS)
        if self.loss_class.use_sigmoid:
            raise ConfigError(
                "PicoHeadV2.loss_class.use_sigmoid: expected false (its scores are probabilities "
                "already), found true"
            )


@dataclass(frozen=True)
class PicoHead(_Head):
    """The 2021 heads; see `heads.pico_head`.

    `grid_cell_scale`, the width of ATSSAssigner's anchors in strides, is a key of PaddleDetection's
    reader (Gt2GFLTarget) there.
    """

    loss_class: Union[VarifocalLoss, QualityFocalLoss] = VarifocalLoss()
    assigner: Union[SimOTAAssigner, ATSSAssigner] = SimOTAAssigner()
    grid_cell_scale: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _numbers(self, ["grid_cell_scale"], 0.01)
        if not self.loss_class.use_sigmoid:
            raise ConfigError(
                "PicoHead.loss_class.use_sigmoid: expected true (it predicts logits), found false"
            )


# ---------------------------------------------------------------------------------------- the whole

Backbone = Union[LCNet, ShuffleNetV2, ESNet, MobileNetV3, ResNet]
Neck = Union[CSPPAN, LCPAN, PAN]
Head = Union[PicoHead, PicoHeadV2]


@dataclass(frozen=True)
class DetectorSettings:
    """A whole detector.

    Attributes:
        backbone, neck, head: the parts.
        num_classes: number of object classes.
    """

    backbone: Backbone
    neck: Neck
    head: Head
    num_classes: int = 80

    def __post_init__(self) -> None:
        _whole(self, ["num_classes"])
        head, neck = type(self.head).__name__, type(self.neck).__name__
        if self.head.conv_feat.feat_in != self.neck.out_channels:
            raise ConfigError(
                f"{head}.conv_feat.feat_in {self.head.conv_feat.feat_in} and {neck}.out_channels "
                f"{self.neck.out_channels} must be equal"
            )

    @property
    def nms(self) -> NmsSettings:
        """The non-maximum suppression behind the head."""
        return self.head.nms
