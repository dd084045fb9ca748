"""Settings of losses and assigners, by their PaddleDetection names and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from picoquant.detector.settings.checks import choice, flags, numbers, whole


@dataclass(frozen=True)
class VarifocalLoss:
    """Loss of the classes; see `losses.varifocal`."""

    use_sigmoid: bool = True
    alpha: float = 0.75
    gamma: float = 2.0
    iou_weighted: bool = True
    reduction: str = "mean"
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        numbers(self, ["alpha", "gamma", "loss_weight"], 0)
        choice(self, "reduction", ("mean",))
        flags(self)


@dataclass(frozen=True)
class QualityFocalLoss:
    """Loss of the classes; see `losses.quality_focal`."""

    use_sigmoid: bool = True
    beta: float = 2.0
    reduction: str = "mean"
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        numbers(self, ["beta", "loss_weight"], 0)
        choice(self, "reduction", ("mean",))
        flags(self)


@dataclass(frozen=True)
class DistributionFocalLoss:
    """Loss of the distances' distributions; see `losses.distribution_focal`."""

    reduction: str = "mean"
    loss_weight: float = 1.0

    def __post_init__(self) -> None:
        numbers(self, ["loss_weight"], 0)
        choice(self, "reduction", ("mean",))


@dataclass(frozen=True)
class GIoULoss:
    """Loss of the boxes; the heads sum it over the points, so `reduction` can only be none."""

    loss_weight: float = 1.0
    eps: float = 1e-10
    reduction: str = "none"

    def __post_init__(self) -> None:
        numbers(self, ["loss_weight", "eps"], 0)
        choice(self, "reduction", ("none",))


@dataclass(frozen=True)
class SIoULoss(GIoULoss):
    """SCYLLA-IoU; `theta` is the exponent of the shape cost."""

    theta: float = 4.0


@dataclass(frozen=True)
class DIouLoss:
    """Distance-IoU, or complete IoU. Every point is weighted by the mean weight of the points, not by its
    own: PaddleDetection's class averages the loss before the head weights it."""

    loss_weight: float = 1.0
    eps: float = 1e-10
    use_complete_iou_loss: bool = True

    def __post_init__(self) -> None:
        numbers(self, ["loss_weight", "eps"], 0)
        flags(self)


@dataclass(frozen=True)
class IouLoss:
    """1 - IoU, or 1 - IoU squared; `giou`, `diou` or `ciou` selects a variant of IoU."""

    loss_weight: float = 2.5
    giou: bool = False
    diou: bool = False
    ciou: bool = False
    loss_square: bool = True

    def __post_init__(self) -> None:
        numbers(self, ["loss_weight"], 0)
        flags(self)


BoxLoss = Union[GIoULoss, SIoULoss, DIouLoss, IouLoss]


@dataclass(frozen=True)
class ATSSAssigner:
    """See `assigners.atss`."""

    topk: int = 9
    force_gt_matching: bool = False
    sm_use: bool = False

    def __post_init__(self) -> None:
        whole(self, ["topk"])
        flags(self)


@dataclass(frozen=True)
class TaskAlignedAssigner:
    """See `assigners.task_aligned`."""

    topk: int = 13
    alpha: float = 1.0
    beta: float = 6.0
    eps: float = 1e-9

    def __post_init__(self) -> None:
        whole(self, ["topk"])
        numbers(self, ["alpha", "beta", "eps"], 0)


@dataclass(frozen=True)
class SimOTAAssigner:
    """See `assigners.simota`."""

    center_radius: float = 2.5
    candidate_topk: int = 10
    iou_weight: float = 3.0
    cls_weight: float = 1.0
    use_vfl: bool = True

    def __post_init__(self) -> None:
        numbers(self, ["center_radius", "iou_weight", "cls_weight"], 0)
        whole(self, ["candidate_topk"])
        flags(self)
