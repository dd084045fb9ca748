"""ncnn's Python package, which holds its runtime."""

from __future__ import annotations

from picoquant.backends.base import Machine
from picoquant.backends.python_package import PythonPackage, find_package

TITLE = "ncnn"
DISTRIBUTIONS = ("ncnn",)
VERSIONS = ">=1.0.20260101"  # as the extra `ncnn` in setup.cfg


def find(machine: Machine, to_run: bool = False) -> PythonPackage:
    """The package, see `base.Toolchain`.

    Raises: `ToolError` with pip's command when it is absent or too old.
    """
    return find_package("ncnn", DISTRIBUTIONS, VERSIONS)
