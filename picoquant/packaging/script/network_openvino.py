"""The package's network in OpenVINO on the CPU: pip install openvino."""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # importing openvino would send statistics, unasked
import openvino  # noqa: E402


class Network:
    """Called with a dictionary of inputs, returns the outputs in their order."""

    def __init__(self, path):
        # Without the hint what is not INT8 may be computed as bfloat16: another result.
        properties = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = openvino.Core().compile_model(path, "CPU", properties)

    def __call__(self, inputs):
        return list(self._compiled(inputs).values())
