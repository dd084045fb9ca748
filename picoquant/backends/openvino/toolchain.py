"""OpenVINO's Python package, which holds its runtime, too."""

from __future__ import annotations

from picoquant.backends.base import Machine
from picoquant.backends.python_package import PythonPackage, find_package

TITLE = "OpenVINO"
DISTRIBUTIONS = ("openvino",)
VERSIONS = ">=2024.6"  # as the extra `openvino` in setup.cfg


def find(machine: Machine, to_run: bool = False) -> PythonPackage:
    """The package, see `base.Toolchain`.

    Raises: `ToolError` with pip's command when it is absent or too old.
    """
    return find_package("openvino", DISTRIBUTIONS, VERSIONS)
