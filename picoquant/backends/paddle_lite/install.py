"""Make an environment of picoquant's own that holds Paddle Lite's opt.

The paddlelite package has wheels for Python 3.10 and 3.8 only (2.13rc0), so it cannot live beside a
current Python.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from picoquant.backends.homes import tool_homes
from picoquant.backends.interpreters import (
    checked_python,
    find_python,
    is_half_made,
    last_line,
    make_environment,
)
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.errors import ToolError
from picoquant.storage.files import disk_errors, write_json
from picoquant.utils.subprocesses import run_program

LOG = logging.getLogger("picoquant")

REQUIREMENT = "paddlelite==2.13rc0"
PYTHONS = ("3.10", "3.8")
_COMPLETE = "picoquant.json"  # written last: an environment without it is half made


def own_environments() -> list[Path]:
    """Complete environments made by `install_lite`, the preferred first."""
    return [folder for folder in _homes() if (folder / _COMPLETE).is_file()]


def _homes() -> list[Path]:
    """Where the environment may be; it is made at the first of these."""
    return tool_homes("lite")


def install_lite(folder: str | Path | None = None, python: str | Path | None = None) -> str:
    """Make the environment; nothing is done when a working one is there.

    Args:
        folder: where; by default `$PICOQUANT_HOME/toolchain/lite`, a checkout's `.toolchain/lite`, or
            the user's data folder.
        python: a Python 3.10 or 3.8; by default one is looked for.

    Returns: one line that says which opt is ready and where.

    Raises: `ToolError` when there is no such Python or pip cannot install; nothing is left then.
    """
    environment = Path(folder).expanduser().absolute() if folder else _homes()[0]
    tool = OptTool(environment / "bin" / "paddle_lite_opt", "picoquant's own environment")
    if (environment / _COMPLETE).is_file():
        try:
            return f"opt {tool.version} is installed: {tool.path}"
        except ToolError as error:
            LOG.warning("%s; it is made again", error)
    elif environment.exists() and any(environment.iterdir()) and not is_half_made(environment):
        raise ToolError(f"{environment} holds something else; name an empty folder")
    LOG.info("looking for a Python %s, which Paddle Lite's opt needs", " or ".join(PYTHONS))
    named = (PYTHONS, "Paddle Lite's opt")
    interpreter, version = (
        checked_python(Path(python), *named) if python else find_python(*named, "picoquant toolchain install")
    )
    with disk_errors(environment):
        shutil.rmtree(environment, ignore_errors=True)
        environment.parent.mkdir(parents=True, exist_ok=True)
        try:
            _make(environment, interpreter, version)
            write_json(environment / _COMPLETE, {"opt": tool.version, "python": version})
        except BaseException:
            shutil.rmtree(environment, ignore_errors=True)
            raise
    return f"opt {tool.version} is installed: {tool.path}"


def _make(environment: Path, interpreter: Path, version: str) -> None:
    make_environment(environment, interpreter, version)
    LOG.info("installing %s into it (about 50 MB)", REQUIREMENT)
    command = [environment / "bin" / "python", "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--no-deps", REQUIREMENT]
    outcome = run_program([str(part) for part in command], timeout=1800, title="pip")
    if outcome.code:
        raise ToolError(
            f"pip could not install {REQUIREMENT} for Python {version}: {last_line(outcome.text)}; "
            "check the network or pip's index, then run `picoquant toolchain install` again"
        )
