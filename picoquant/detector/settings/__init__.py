"""Settings of a detector: PaddleDetection's component names, keys and defaults.

Importing this imports no paddle. A dataclass is a component of that name; its fields are the keys a
configuration may set. Values are checked where a wrong one would otherwise fail late or silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from picoquant.detector.settings.backbones import Backbone
from picoquant.detector.settings.checks import whole
from picoquant.detector.settings.heads import PicoFeat, PicoHead, PicoHeadV2
from picoquant.detector.settings.necks import CSPPAN, LCPAN, PAN
from picoquant.detector.settings.training import (
    ATSSAssigner,
    BoxLoss,
    DIouLoss,
    DistributionFocalLoss,
    GIoULoss,
    IouLoss,
    QualityFocalLoss,
    SimOTAAssigner,
    SIoULoss,
    TaskAlignedAssigner,
    VarifocalLoss,
)
from picoquant.errors import ConfigError
from picoquant.postprocess.settings import NmsSettings

__all__ = [
    "ATSSAssigner",
    "Backbone",
    "BoxLoss",
    "CSPPAN",
    "DIouLoss",
    "DetectorSettings",
    "DistributionFocalLoss",
    "GIoULoss",
    "Head",
    "IouLoss",
    "LCPAN",
    "Neck",
    "PAN",
    "PicoFeat",
    "PicoHead",
    "PicoHeadV2",
    "QualityFocalLoss",
    "SIoULoss",
    "SimOTAAssigner",
    "TaskAlignedAssigner",
    "VarifocalLoss",
]

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
        whole(self, ["num_classes"])
        head, neck = type(self.head).__name__, type(self.neck).__name__
        if self.head.conv_feat.feat_in != self.neck.out_channels:
            raise ConfigError(
                f"{head}.conv_feat.feat_in {self.head.conv_feat.feat_in} and {neck}.out_channels "
                f"{self.neck.out_channels} must be equal"
            )

    @property
    def nms(self) -> NmsSettings:
        """Settings of the non-maximum suppression after the head."""
        return self.head.nms
