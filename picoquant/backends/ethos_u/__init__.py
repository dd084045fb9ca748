"""Arm Ethos-U: the `.tflite` compiled by Vela, and what Vela says of it; nothing runs here."""

from picoquant.backends.base import Backend
from picoquant.backends.scheme import Scheme

BACKENDS = (
    Backend(
        "ethos-u",
        "Vela for Ethos-U",
        __name__,
        precisions=("int8",),
        scheme=Scheme(every_tensor=True, zero_points=True),
        suffixes=(".tflite",),
        file="model_int8_vela.tflite",
    ),
)
