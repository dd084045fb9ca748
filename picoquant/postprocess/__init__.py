"""Post-processing of the network's outputs in NumPy: box decoding and non-maximum suppression."""

from __future__ import annotations

from picoquant.postprocess.decode import (
    anchor_points,
    decode_boxes,
    decode_levels,
    promising,
    scores_of_logits,
)
from picoquant.postprocess.decoder import Decoder
from picoquant.postprocess.detections import Detections
from picoquant.postprocess.nms import multiclass_nms
from picoquant.postprocess.settings import NmsSettings

__all__ = [
    "Decoder",
    "Detections",
    "NmsSettings",
    "anchor_points",
    "decode_boxes",
    "decode_levels",
    "multiclass_nms",
    "promising",
    "scores_of_logits",
]
