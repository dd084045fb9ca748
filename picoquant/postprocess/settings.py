"""Settings of multi-class non-maximum suppression."""

from __future__ import annotations

from dataclasses import dataclass

from picoquant.errors import ConfigError


@dataclass(frozen=True)
class NmsSettings:
    """Multi-class NMS, with the names and the values of PaddleDetection's PicoDet configurations.

    Attributes:
        score_threshold: only scores greater than this are used.
        nms_threshold: of two boxes of a class, the one with the lower score is removed if their IoU is
            greater than this.
        nms_top_k: at most this many boxes of a class are used, best first; -1: all.
        keep_top_k: at most this many detections of an image are kept, best first; -1: all.
    """

    score_threshold: float = 0.025
    nms_threshold: float = 0.6
    nms_top_k: int = 1000
    keep_top_k: int = 100

    def __post_init__(self) -> None:
        for name in ("score_threshold", "nms_threshold"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"nms.{name} is {value!r}: a number from 0 to 1 is expected")
            if not 0 <= value <= 1:
                raise ConfigError(f"nms.{name} is {value}: a number from 0 to 1 is expected")
        for name in ("nms_top_k", "keep_top_k"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or (value < 1 and value != -1):
                raise ConfigError(
                    f"nms.{name} is {value!r}: a whole number from 1, or -1 for all, is expected"
                )
