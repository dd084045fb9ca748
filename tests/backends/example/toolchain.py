"""NumPy."""

from __future__ import annotations

from picoquant.backends.base import Machine
from picoquant.backends.python_package import PythonPackage, find_package

TITLE = "NumPy"
DISTRIBUTIONS = ("numpy",)


def find(machine: Machine, to_run: bool = False) -> PythonPackage:
    """The package, see `base.Toolchain`."""
    return find_package("numpy", DISTRIBUTIONS)
