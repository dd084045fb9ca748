"""TPU-MLIR: found where `picoquant toolchain install tpu_mlir` has put it, or in a Python that the user names."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.base import Machine
from picoquant.backends.own_environment.package import OwnTool, find_package_tool, install_package
from picoquant.backends.tpu_mlir.package import PACKAGE

TITLE = PACKAGE.title
DISTRIBUTIONS = ()  # none of this environment
OPTIONAL = True


def find(machine: Machine, to_run: bool = False) -> OwnTool:
    """The compiler and its C model; see `base.Toolchain`. A version that was not tried is used, with a warning.

    Raises: `ToolError` saying what to do when it is not there.
    """
    return find_package_tool(PACKAGE)


def install(accepted: bool, python: str | Path | None = None) -> str:
    """Make its environment, see `install_package`; returns a line that says what is ready and where."""
    return install_package(PACKAGE, accepted, python)
