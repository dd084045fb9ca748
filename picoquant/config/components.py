"""The components that a PaddleDetection configuration can name, and the settings of each.

A component has the name of its settings' class; the lists are those of `picoquant.detector.settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from picoquant.detector import settings as s
from picoquant.postprocess.settings import NmsSettings

Components = Mapping[str, type]


def _by_name(kinds: Any) -> Components:
    """The classes of a `Union`, by their names."""
    return {kind.__name__: kind for kind in get_args(kinds)}


BACKBONES = _by_name(s.Backbone)
NECKS = _by_name(s.Neck)
HEADS = _by_name(s.Head)

_COMMON_PARTS: Mapping[str, Components] = {
    "conv_feat": {"PicoFeat": s.PicoFeat},
    "loss_dfl": {"DistributionFocalLoss": s.DistributionFocalLoss},
    "loss_bbox": _by_name(s.BoxLoss),
    "nms": {"MultiClassNMS": NmsSettings},
}

# Head -> its keys that hold components -> what may stand there.
PARTS: Mapping[type, Mapping[str, Components]] = {
    s.PicoHead: {
        **_COMMON_PARTS,
        "loss_class": {"VarifocalLoss": s.VarifocalLoss, "QualityFocalLoss": s.QualityFocalLoss},
        "assigner": {"SimOTAAssigner": s.SimOTAAssigner, "ATSSAssigner": s.ATSSAssigner},
    },
    s.PicoHeadV2: {
        **_COMMON_PARTS,
        "loss_class": {"VarifocalLoss": s.VarifocalLoss},
        "static_assigner": {"ATSSAssigner": s.ATSSAssigner},
        "assigner": {"TaskAlignedAssigner": s.TaskAlignedAssigner},
    },
}


def components_of_heads() -> Components:
    """What the heads are made of, by name."""
    return {name: kind for keys in PARTS.values() for kinds in keys.values() for name, kind in kinds.items()}
