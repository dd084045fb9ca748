"""The machine that bytes are recorded on: what decides in which order floats are added, and what files say."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

_PACKAGES = (
    "paddlepaddle", "paddleslim", "paddle2onnx", "numpy", "onnx", "onnxruntime", "opencv-python", "click"
)  # fmt: skip
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")


def machine() -> dict[str, str]:
    """CPU model and its vector instructions, Python's minor version and those of the packages that compute."""
    facts = _cpu()
    flags = facts.get("flags", "").split()
    found = {
        "cpu": facts.get("model name", platform.processor() or platform.machine()),
        "flags": " ".join(name for name in _FLAGS if name in flags),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    installed = {
        one.metadata["Name"].lower() for one in importlib.metadata.distributions() if one.metadata["Name"]
    }
    for name in _PACKAGES:
        found[name] = importlib.metadata.version(name) if name.lower() in installed else "none"
    return found


def _cpu() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
