"""Paddle Lite's opt, and the runtime beside it: found, or installed in an environment of its own."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from picoquant.backends.base import Machine
from picoquant.backends.paddle_lite.install import install_lite, own_environments
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.errors import ToolError

LOG = logging.getLogger("picoquant")

TITLE = "Paddle Lite opt"
DISTRIBUTIONS = ()  # paddlelite has no wheel for this Python
VARIABLE = "PICOQUANT_LITE_OPT"
PROGRAM = "paddle_lite_opt"


def find(machine: Machine, to_run: bool = False) -> OptTool:
    """The opt to use, with `to_run` one that has the runtime beside it; see `base.Toolchain`.

    Raises: `ToolError` saying what to do when there is none.
    """
    opt = find_opt(machine.opt)
    if to_run and opt.python is None:
        raise ToolError(f"{opt.path} has no Python runtime beside it: picoquant toolchain install")
    return opt


def install(python: str | Path | None = None) -> str:
    """Make an environment with opt, see `install_lite`; returns a line that says which opt is ready and where."""
    return install_lite(python=python)


def find_opt(explicit: str | Path | None = None) -> OptTool:
    """The opt to use: `explicit`, `PICOQUANT_LITE_OPT`, the current environment, `PATH`, picoquant's own.

    What the user names is used or refused. What is merely found is passed over when it does not run.

    Raises: `ToolError` saying what to do when there is none.
    """
    for value, origin in ((explicit, "--opt"), (os.environ.get(VARIABLE), VARIABLE)):
        if value:
            return _named(Path(value).expanduser(), origin)
    for path, origin in _candidates():
        tool = OptTool(path.absolute(), origin)
        try:
            LOG.debug("opt %s: %s, from %s", tool.version, path, origin)
        except ToolError as error:
            LOG.warning("%s; looking further", error)
            continue
        return tool
    raise ToolError(
        f"Paddle Lite's opt is not installed: run `picoquant toolchain install`, or name one with --opt PATH "
        f"or the environment variable {VARIABLE}"
    )


def _named(path: Path, origin: str) -> OptTool:
    if path.is_dir():
        path = path / PROGRAM
    if not path.is_file():
        raise ToolError(
            f"{origin}: no such file: {path}; name Paddle Lite's opt, or run `picoquant toolchain install`"
        )
    tool = OptTool(path.absolute(), origin)
    try:
        LOG.debug("opt %s: %s, from %s", tool.version, path, origin)
    except ToolError as error:
        raise ToolError(f"{origin}: {error}") from error
    return tool


def _candidates() -> Iterator[tuple[Path, str]]:
    seen = set()
    for path, origin in _places():
        if path.is_file() and path not in seen:
            seen.add(path)
            yield path, origin


def _places() -> Iterator[tuple[Path, str]]:
    yield Path(sys.executable).parent / PROGRAM, "the current environment"
    try:
        files = importlib.metadata.distribution("paddlelite").files or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == PROGRAM:
            yield Path(file.locate()).resolve(), "the current environment"
    for folder in filter(None, os.environ.get("PATH", "").split(os.pathsep)):
        yield Path(folder) / PROGRAM, "PATH"
    for environment in own_environments():
        yield environment / "bin" / PROGRAM, "picoquant's own environment"
