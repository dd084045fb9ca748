"""ONNX Runtime; what writes ONNX files, paddle2onnx and onnx, picoquant needs anyway."""

from __future__ import annotations

from picoquant.backends.python_package import finder

TITLE = "ONNX Runtime"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")

find = finder("onnxruntime", DISTRIBUTIONS)
