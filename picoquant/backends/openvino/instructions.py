"""Whether OpenVINO's INT8 kernels compute on this CPU what a network says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from picoquant.backends.onnx.runtime import has_vnni

_CPUINFO = Path("/proc/cpuinfo")
_WITHOUT = ("SSE41", "AVX", "AVX2", "AVX512_CORE")  # values of ONEDNN_MAX_CPU_ISA


def adds_exactly(environment: Mapping[str, str] = os.environ, cpuinfo: Path = _CPUINFO) -> bool:
    """Whether products of INT8 are added in 32 bits; False where that is not known.

    Without VNNI (or where `ONEDNN_MAX_CPU_ISA` takes it away) they are added in pairs in 16 bits, which saturate:
    PicoDet-S-NPU has mAP 0.157 then, in place of 0.346 (docs/openvino.md).

    Args:
        environment: of this process.
        cpuinfo: what Linux says of the CPU.
    """
    return environment.get("ONEDNN_MAX_CPU_ISA", "").upper() not in _WITHOUT and has_vnni(cpuinfo)
