"""ONNX: the float and the INT8 file, and ONNX Runtime."""

from picoquant.backends.base import Backend
from picoquant.backends.scheme import Scheme

BACKENDS = (
    Backend(
        "onnx",
        "ONNX Runtime",
        __name__,
        scheme=Scheme(zero_points=True),
        suffixes=(".onnx",),
        file="model_int8.onnx",
        step="onnx",
        step_says="the INT8 ONNX ({made}) in ONNX Runtime",
        check="onnx",
    ),
)
