"""The package's network in OpenVINO on the CPU: pip install openvino."""

import os
import sys

sys.modules.setdefault("openvino_telemetry", None)  # importing openvino would send statistics, unasked
import openvino  # noqa: E402


class Network:
    """Called with a dictionary of inputs, returns the outputs in their order."""

    def __init__(self, path):
        # Without the hint what is not INT8 may be computed as bfloat16: another result.
        properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if not adds_exactly():  # then INT8 is computed in float, with the same results and slower
            properties["LP_TRANSFORMS_MODE"] = "NO"
        self._compiled = openvino.Core().compile_model(path, "CPU", properties)

    def __call__(self, inputs):
        return list(self._compiled(inputs).values())


def adds_exactly():
    """Whether the CPU adds products of INT8 in 32 bits; without VNNI OpenVINO does in 16, which saturate."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in ("SSE41", "AVX", "AVX2", "AVX512_CORE"):
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            flags = [set(line.split()) for line in lines if line.startswith("flags")]
    except OSError:
        return False
    return bool(flags) and all(one & {"avx512_vnni", "avx_vnni"} for one in flags)
