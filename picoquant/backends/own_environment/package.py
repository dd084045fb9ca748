"""A vendor's Python package in an environment of its own, as its packages do not fit beside picoquant's."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from picoquant.backends.base import Machine
from picoquant.backends.homes import tool_homes
from picoquant.backends.interpreters import checked_python, find_python, last_line, make_environment
from picoquant.backends.own_environment.installing import (
    COMPLETE,
    Terms,
    fetched_wheel,
    installing,
    pip_install,
)
from picoquant.errors import ToolError
from picoquant.storage.files import write_json
from picoquant.utils.subprocesses import run_program

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class Package:
    """A package of a vendor.

    Attributes:
        name: of `picoquant toolchain install NAME` and of the environment's folder.
        title: what people call the tool.
        distribution, version: on the package index; the version that picoquant was tried with.
        wheels: SHA-256 of the wheel by the Python that it is for.
        pythons: that will do, the one that was tried first.
        requirements: what is installed with it, which may be other than what the wheel asks for.
        sizes: of the wheel, and of what comes with it, for people.
        terms: see `Terms`.
        variable: environment variable with which a user names a Python of his own that has it.
        finish: changes what was installed, called with the folder of its packages; None: nothing.
    """

    name: str
    title: str
    distribution: str
    version: str
    wheels: Mapping[str, str]
    pythons: tuple[str, ...]
    requirements: tuple[str, ...]
    sizes: tuple[str, str]
    terms: Terms
    variable: str
    finish: Callable[[Path], None] | None = None

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.distribution}=={self.version}"

    @property
    def command(self) -> str:
        """What installs it."""
        return f"picoquant toolchain install {self.name}"

    @property
    def accepting(self) -> str:
        """What installs it without another question."""
        return self.command + (" --accept-licence" if self.terms.accept else "")


@dataclass(frozen=True)
class OwnTool:
    """A tool that was found; see `base.Found`.

    Attributes:
        title: what people call it.
        version: of its package.
        path: the Python that has it.
        origin: how it was found.
    """

    title: str
    version: str
    path: Path
    origin: str

    @property
    def python(self) -> Path:
        """The Python that has it."""
        return self.path


def install_package(
    package: Package, accepted: bool, python: str | Path | None = None, folder: Path | None = None
) -> str:
    """Make the environment of a package; nothing is done when it is there.

    Args:
        package: which.
        accepted: whether the user accepts the licence.
        python: one of its `pythons`; by default one is looked for.
        folder: where; by default the first of `homes.tool_homes`.

    Returns: one line that says what is ready and where.

    Raises: `ToolError` as `installing`, without such a Python, and when the wheel or what it needs cannot be fetched or
        is another one; nothing is left then.
    """
    home = folder or tool_homes(package.name)[0]
    ready = f"{package.requirement} is installed: {home}"
    if (home / COMPLETE).is_file():
        return ready
    with installing(home, package.terms, accepted):
        named = (package.pythons, package.title)
        interpreter, version = (
            checked_python(Path(python), *named) if python else find_python(*named, package.command)
        )
        make_environment(home, interpreter, version)
        digest = package.wheels[version.rpartition(".")[0]]
        own = home / "bin" / "python"
        LOG.info("fetching %s (%s)", package.requirement, package.sizes[0])
        with fetched_wheel(own, package.requirement, digest, package.command, home.parent) as wheel:
            LOG.info("installing it and what it needs (%s)", package.sizes[1])
            for what in (package.requirements, ("--no-deps", str(wheel))):
                pip_install(own, what, package.requirement, package.command)
        if package.finish is not None:
            package.finish(next(home.glob("lib/python3*/site-packages")))
        facts = {
            "package": package.requirement,
            "sha256": digest,
            "python": version,
            "packages": _installed(own),
            "licence": package.terms.licence,
        }
        write_json(home / COMPLETE, facts)
    return ready


class Find(Protocol):
    """`find` of a `toolchain.py`."""

    def __call__(self, machine: Machine, to_run: bool = False) -> OwnTool:
        """See `base.Toolchain`."""


class Install(Protocol):
    """`install` of a `toolchain.py`."""

    def __call__(self, accepted: bool, python: str | Path | None = None) -> str:
        """See `install_package`."""


def faces(package: Package) -> tuple[Find, Install]:
    """`find` and `install` of a toolchain that is such a package and nothing else."""

    def find(machine: Machine, to_run: bool = False) -> OwnTool:
        """The package's tool, see `base.Toolchain`. A version that was not tried is used, with a warning.

        Raises: `ToolError` saying what to do when it is not there.
        """
        return find_package_tool(package)

    def install(accepted: bool, python: str | Path | None = None) -> str:
        """Make its environment, see `install_package`; returns a line that says what is ready and where."""
        return install_package(package, accepted, python)

    return find, install


def find_package_tool(package: Package) -> OwnTool:
    """A package's tool: in the Python that the user names, else in picoquant's own environment.

    A version that was not tried is used, with a warning.

    Raises: `ToolError` saying what to do when it is not there.
    """
    named = os.environ.get(package.variable)
    if named:
        return _checked(package, Path(named).expanduser(), package.variable)
    for home in tool_homes(package.name):
        if (home / COMPLETE).is_file():
            return _checked(package, home / "bin" / "python", "picoquant's own environment")
    raise ToolError(
        f"{package.title} is not installed: run `{package.accepting}`, or name a Python that has it with the "
        f"environment variable {package.variable}"
    )


def _checked(package: Package, python: Path, origin: str) -> OwnTool:
    code = f"import importlib.metadata as m; print(m.version({package.distribution!r}))"
    outcome = run_program([str(python), "-c", code], timeout=60)
    if outcome.code:
        last = (outcome.text.strip().splitlines() or ["no message"])[-1]
        raise ToolError(f"{python} (from {origin}) has no {package.title}: {last}; run `{package.accepting}`")
    version = last_line(outcome.text)
    if version != package.version:
        LOG.warning(
            "%s %s is used, picoquant was tried with %s: %s", package.title, version, package.version, python
        )
    return OwnTool(package.title, version, python, origin)


def _installed(python: Path) -> list[str]:
    """All packages of an environment with their versions."""
    listed = run_program(
        [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"], timeout=120
    )
    try:
        return sorted(
            f"{item['name']}=={item['version']}" for item in json.loads(listed.text.strip().splitlines()[0])
        )
    except (ValueError, IndexError, KeyError, TypeError):
        return []
