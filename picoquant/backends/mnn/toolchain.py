"""MNN's Python package: its runtime and its converter."""

from __future__ import annotations

from picoquant.backends.base import Machine
from picoquant.backends.python_package import PythonPackage, find_package

TITLE = "MNN"
DISTRIBUTIONS = ("MNN",)
VERSIONS = ">=3,<4"  # as the extra `mnn` in setup.cfg


def find(machine: Machine, to_run: bool = False) -> PythonPackage:
    """The package, see `base.Toolchain`.

    Raises: `ToolError` with pip's command when it is absent or of another version.
    """
    return find_package("MNN", DISTRIBUTIONS, VERSIONS)
