"""The backends by name. A new one is a folder and a line here; docs/backends.md says what is in the folder."""

from __future__ import annotations

from collections.abc import Mapping

# Name -> folder, whose `BACKENDS` describes it; in the order of tables.
BACKENDS: Mapping[str, str] = {
    "paddle": "picoquant.backends.paddle",
    "paddle-no-onednn": "picoquant.backends.paddle",
    "onnx": "picoquant.backends.onnx",
    "lite": "picoquant.backends.paddle_lite",
    "tflite": "picoquant.backends.tflite",
    "tflite-no-xnnpack": "picoquant.backends.tflite",
    "tflite-16x8": "picoquant.backends.tflite",
    "ethos-u": "picoquant.backends.ethos_u",
    "openvino": "picoquant.backends.openvino",
    "rknn": "picoquant.backends.rknn",
    "tpu-mlir": "picoquant.backends.tpu_mlir",
    "esp-ppq": "picoquant.backends.esp_ppq",
    "ncnn": "picoquant.backends.ncnn",
    "mnn": "picoquant.backends.mnn",
}

COMPILERS = ("ethos-u",)  # make files for boards and run nothing here: they have no `runtime.py`
DYGRAPH = "dygraph"  # no backend: the trained network itself, which runs without files
REFERENCE = "paddle"  # what the others are compared with; it runs the model that all others are made from
