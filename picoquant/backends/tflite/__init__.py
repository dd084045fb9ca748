"""TensorFlow Lite: full-integer `.tflite` files, and LiteRT with and without XNNPACK."""

from picoquant.backends.base import Backend

_BACKEND = {"folder": __name__, "precisions": ("int8",), "every_tensor": True}

BACKENDS = (
    Backend(
        "tflite",
        "LiteRT with XNNPACK",
        step="tflite",
        step_says="the .tflite ({made}) in LiteRT with XNNPACK",
        check="tflite",
        **_BACKEND,
    ),
    Backend(
        "tflite-no-xnnpack",
        "LiteRT's own kernels",
        variant_of="tflite",
        without=frozenset({"xnnpack"}),
        **_BACKEND,
    ),
)
