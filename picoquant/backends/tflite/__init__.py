"""TensorFlow Lite: full-integer `.tflite` files, and LiteRT with and without XNNPACK."""

from typing import Any

from picoquant.backends.base import Backend
from picoquant.backends.scheme import Scheme

# Every tensor is rounded, what the reference leaves in float behind the last convolutions and the outputs, too.
_BOTH: dict[str, Any] = {
    "folder": __name__,
    "precisions": ("int8",),
    "scheme": Scheme(every_tensor=True, zero_points=True),
    "parity": 12.0,
    "suffixes": (".tflite",),
    "file": "model_int8.tflite",
}

BACKENDS = (
    Backend(
        "tflite",
        "LiteRT with XNNPACK",
        step="tflite",
        step_says="the .tflite ({made}) in LiteRT with XNNPACK",
        check="tflite",
        **_BOTH,
    ),
    Backend(
        "tflite-no-xnnpack",
        "LiteRT's own kernels",
        variant_of="tflite",
        without=frozenset({"xnnpack"}),
        **_BOTH,
    ),
)
