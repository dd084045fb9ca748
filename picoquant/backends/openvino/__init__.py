"""OpenVINO: its IR, and its runtime on the CPU."""

from picoquant.backends.base import Backend
from picoquant.backends.scheme import Scheme

BACKENDS = (
    Backend(
        "openvino",
        "OpenVINO",
        __name__,
        scheme=Scheme(zero_points=True),
        suffixes=(".xml", ".bin"),
        file="model.xml",
        step="openvino",
        step_says="the INT8 IR ({made}) in OpenVINO",
        check="openvino",
    ),
)
