"""A toolchain that is a Python package of this environment."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from picoquant.errors import ToolError


@dataclass(frozen=True)
class PythonPackage:
    """A package that was found; see `base.Found`."""

    version: str
    path: Path
    origin: str = "the current environment"


def find_package(module: str, distributions: Sequence[str]) -> PythonPackage:
    """A package of this environment, without importing it.

    Args:
        module: its first name in an import.
        distributions: what brings it, the usual one first.

    Raises: `ToolError` with pip's command when it is not there.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ToolError(f"{module} is not installed: {sys.executable} -m pip install {distributions[0]}")
    return PythonPackage(_version(distributions), Path(spec.origin).parent)


def _version(distributions: Sequence[str]) -> str:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"
