"""A toolchain that is a Python package of this environment."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from picoquant.backends.base import Machine
from picoquant.errors import ToolError


@dataclass(frozen=True)
class PythonPackage:
    """A package that was found; see `base.Found`."""

    version: str
    path: Path
    origin: str = "the current environment"


class Find(Protocol):
    """`find` of a `toolchain.py`."""

    def __call__(self, machine: Machine, to_run: bool = False) -> PythonPackage:
        """See `base.Toolchain`."""


def finder(module: str, distributions: Sequence[str], versions: str = "") -> Find:
    """`find` of a toolchain that is a package and nothing else; arguments are those of `find_package`."""

    def find(machine: Machine, to_run: bool = False) -> PythonPackage:
        """The package, see `base.Toolchain`.

        Raises: `ToolError` with pip's command when it is absent or of another version.
        """
        return find_package(module, distributions, versions)

    return find


def find_package(module: str, distributions: Sequence[str], versions: str = "") -> PythonPackage:
    """A package of this environment, without importing it.

    Args:
        module: its first name in an import.
        distributions: what brings it, the usual one first.
        versions: those that picoquant was tried with, as pip takes them (`>=1,<2`); empty: any.

    Raises: `ToolError` with pip's command when it is not there, or of another version.
    """
    wanted = f"'{distributions[0]}{versions}'" if versions else distributions[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ToolError(f"{module} is not installed: {sys.executable} -m pip install {wanted}")
    found = PythonPackage(_version(distributions), Path(spec.origin).parent)
    if versions and not _fits(found.version, versions):
        raise ToolError(
            f"{module} {found.version} is installed, picoquant takes {versions}: "
            f"{sys.executable} -m pip install {wanted}"
        )
    return found


def _fits(version: str, versions: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(versions).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _version(distributions: Sequence[str]) -> str:
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"
