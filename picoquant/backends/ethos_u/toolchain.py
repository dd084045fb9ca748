"""Vela, Arm's compiler for Ethos-U."""

from __future__ import annotations

import importlib.util

from picoquant.backends.base import Machine
from picoquant.backends.python_package import PythonPackage, find_package
from picoquant.backends.tflite import toolchain as tflite
from picoquant.errors import ToolError

TITLE = "Vela for Ethos-U"
DISTRIBUTIONS = ("ethos-u-vela",)
VERSIONS = ">=5,<6"  # as the extra `ethos_u` in setup.cfg


def find(machine: Machine, to_run: bool = False) -> PythonPackage:
    """The package, see `base.Toolchain`; what it compiles is written with LiteRT's schema, so that must be there, too.

    Raises: `ToolError` with pip's command when one is absent or of another version, and with `to_run`: it runs nothing.
    """
    # `ethosu` is a folder of several packages: without it the search inside it would fail.
    inside = "ethosu.vela" if importlib.util.find_spec("ethosu") is not None else "ethosu"
    found = find_package(inside, DISTRIBUTIONS, VERSIONS)
    tflite.find(machine)
    if to_run:
        raise ToolError(f"{TITLE} compiles models for boards and runs none on this machine")
    return found
