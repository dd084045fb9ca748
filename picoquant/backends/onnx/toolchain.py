"""ONNX Runtime; what writes ONNX files, paddle2onnx and onnx, picoquant needs anyway."""

from __future__ import annotations

from picoquant.backends.base import Machine
from picoquant.backends.python_package import PythonPackage, find_package

TITLE = "ONNX Runtime"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


def find(machine: Machine, to_run: bool = False) -> PythonPackage:
    """The package, see `base.Toolchain`.

    Raises: `ToolError` with pip's command when it is absent.
    """
    return find_package("onnxruntime", DISTRIBUTIONS)
