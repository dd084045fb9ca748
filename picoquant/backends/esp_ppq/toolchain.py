"""esp-ppq: found where `picoquant toolchain install esp_ppq` has put it, or in a Python that the user names."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.base import Machine
from picoquant.backends.esp_ppq.package import PACKAGE
from picoquant.backends.own_environment.package import OwnTool, find_package_tool, install_package

TITLE = PACKAGE.title
DISTRIBUTIONS = ()  # none of this environment
OPTIONAL = True


def find(machine: Machine, to_run: bool = False) -> OwnTool:
    """The quantiser, exporter and executor; see `base.Toolchain`. A version that was not tried is used, with a warning.

    Raises: `ToolError` saying what to do when it is not there.
    """
    return find_package_tool(PACKAGE)


def install(accepted: bool, python: str | Path | None = None) -> str:
    """Make its environment, see `install_package`; returns a line that says what is ready and where."""
    return install_package(PACKAGE, accepted, python)
