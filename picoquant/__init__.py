"""picoquant: train PicoDet, quantise it to INT8 and package it for NPUs that run INT8 only."""

# paddle 2.6 exports zlib symbols of its own; unless the real zlib is loaded first, whatever uses zlib
# afterwards (pycocotools, zip files) fails with "inconsistent stream state" or a segmentation fault.
from __future__ import annotations

import os
import warnings
import zlib  # noqa: F401
from typing import TYPE_CHECKING, Any

from picoquant.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# OpenCV reads this when it is loaded: a file of a few bytes may claim a billion pixels, and get them.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 27))

# ONNX Runtime from 1.29 on sends its makers an account of every session; these are its own switches, read when it
# is loaded.
for _switch in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):
    os.environ.setdefault(_switch, "1")

# Paddle 3 writes and traces programs of another form (PIR) unless it is told not to before it is loaded; 2.6 does not.
os.environ.setdefault("FLAGS_enable_pir_api", "0")
# Paddle 3 says so each time it is loaded; nothing is compiled here.
warnings.filterwarnings("ignore", "No ccache found")

__all__ = ["__version__", "build_detector"]


def build_detector(config: str | Path | Mapping[str, Any], num_classes: int | None = None) -> Any:
    """Build a PicoDet as a `paddle.nn.Layer` with PaddleDetection's parameter names.

    Args:
        config: a PaddleDetection configuration: a path, the bare name of a shipped one, or a mapping.
        num_classes: number of object classes; by default what the configuration says.

    Returns: the detector; see `picoquant.detector.picodet.PicoDet` for its calls.

    Raises: `picoquant.errors.ConfigError` when the configuration does not describe a detector.
    """
    from picoquant.config.detector import load_detector

    return load_detector(config, num_classes)
