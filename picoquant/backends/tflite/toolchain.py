"""LiteRT, which runs `.tflite` files and brings their schema."""

from __future__ import annotations

from picoquant.backends.base import Machine
from picoquant.backends.python_package import PythonPackage, find_package

TITLE = "LiteRT"
DISTRIBUTIONS = ("ai-edge-litert",)
VERSIONS = ">=2,<3"  # as the extra `tflite` in setup.cfg


def find(machine: Machine, to_run: bool = False) -> PythonPackage:
    """The package, see `base.Toolchain`.

    Raises: `ToolError` with pip's command when it is absent or of another version.
    """
    return find_package("ai_edge_litert", DISTRIBUTIONS, VERSIONS)
