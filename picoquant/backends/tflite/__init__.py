"""TensorFlow Lite: full-integer `.tflite` files of 8 or 16 bits, and LiteRT with and without XNNPACK."""

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
        step="tflite-no-xnnpack",
        step_says="the .tflite ({made}) in LiteRT's own kernels",
        **_BOTH,
    ),
    Backend(
        "tflite-16x8",
        "LiteRT, 16x8",
        step="tflite-16x8",
        step_says="the .tflite with activations of 16 bits ({made}) in LiteRT",
        check="tflite-16x8",
        **{
            **_BOTH,
            "integers": False,  # activations are finer than the reference's
            "file": "model_16x8.tflite",
            "settings": {"activation_bits": 16},
        },
    ),
)
