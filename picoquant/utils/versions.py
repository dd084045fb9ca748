"""Versions of the software that a result depends on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from picoquant.version import __version__

# The packages that determine the content of an NPU package, and those that determine a run's numbers.
OF_A_PACKAGE = (
    "paddlepaddle", "paddlepaddle-gpu", "paddleslim", "paddle2onnx", "onnx", "onnxruntime", "numpy",
)  # fmt: skip
OF_A_RUN = (
    "paddlepaddle", "paddlepaddle-gpu", "paddleslim", "paddle2onnx", "onnx", "onnxruntime", "pycocotools",
    "numpy", "opencv-python",
)  # fmt: skip


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of picoquant, Python and those of `packages` that are installed, by name."""
    found = {"picoquant": __version__, "python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
