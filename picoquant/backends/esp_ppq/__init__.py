"""Espressif's ESP-DL by its esp-ppq: `.espdl` files with our ranges as powers of two, and its executor on the PC."""

from picoquant.backends.base import Backend
from picoquant.backends.scheme import Scheme

BACKENDS = (
    Backend(
        "esp-ppq",
        "esp-ppq's executor",
        __name__,
        precisions=("int8",),
        scheme=Scheme(every_tensor=True),
        # Scales are powers of two, so no integer is the reference's: docs/esp_ppq.md.
        parity=6.0,
        suffixes=(".espdl", ".onnx"),
        file="model.espdl",
        takes_threads=False,
        step="esp_ppq",
        step_says="what the .espdl ({made}) is built from, in esp-ppq's executor",
        check="esp_ppq",
    ),
)
