"""Arm Ethos-U: the `.tflite` compiled by Vela, and what Vela says of it; nothing runs here."""

from picoquant.backends.base import Backend

BACKENDS = (
    Backend(
        "ethos-u",
        "Vela for Ethos-U",
        __name__,
        precisions=("int8",),
        suffixes=(".tflite",),
        file="model_int8_vela.tflite",
    ),
)
