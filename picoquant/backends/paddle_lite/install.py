"""Make an environment of picoquant's own that holds Paddle Lite's opt.

The paddlelite package has wheels for Python 3.10 and 3.8 only (2.13rc0), so it cannot live beside a
current Python.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from picoquant.backends.homes import tool_homes
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
    elif environment.exists() and any(environment.iterdir()) and not _is_half_made(environment):
        raise ToolError(f"{environment} holds something else; name an empty folder")
    LOG.info("looking for a Python %s, which Paddle Lite's opt needs", " or ".join(PYTHONS))
    interpreter, version = _checked(Path(python)) if python else _first_python()
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


def _is_half_made(environment: Path) -> bool:
    """Whether a killed installation left it: a virtual environment begins with this file or folder."""
    return (environment / "pyvenv.cfg").is_file() or {path.name for path in environment.iterdir()} <= {
        "bin",
        "include",
        "lib",
        "lib64",
    }


def _make(environment: Path, interpreter: Path, version: str) -> None:
    LOG.info("making %s with Python %s (%s)", environment, version, interpreter)
    outcome = run_program([str(interpreter), "-m", "venv", str(environment)], title="venv")
    if outcome.code:
        raise ToolError(f"{interpreter} could not make {environment}: {_last_line(outcome.text)}")
    LOG.info("installing %s into it (about 50 MB)", REQUIREMENT)
    command = [environment / "bin" / "python", "-m", "pip", "install", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--no-deps", REQUIREMENT]
    outcome = run_program([str(part) for part in command], timeout=1800, title="pip")
    if outcome.code:
        raise ToolError(
            f"pip could not install {REQUIREMENT} for Python {version}: {_last_line(outcome.text)}; "
            "check the network or pip's index, then run `picoquant toolchain install` again"
        )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]


def _first_python() -> tuple[Path, str]:
    refused = []
    for path in _pythons():
        try:
            return _checked(path)
        except ToolError as error:
            refused.append(str(error))
    for reason in refused:
        LOG.info("passed over: %s", reason)
    raise ToolError(
        "Paddle Lite's opt needs a Python 3.10 or 3.8 and none was found (looked on PATH, in the folders of "
        "pyenv, conda and uv, /usr, /usr/local and /opt): install one (for example `pyenv install 3.10`, or "
        "your system's python3.10 and python3.10-venv), or name it: picoquant toolchain install --python PATH"
    )


def _checked(path: Path) -> tuple[Path, str]:
    """The interpreter's own path and version.

    Raises: `ToolError` when it does not run, is another version, or cannot make environments.
    """
    code = (
        "import sys, venv, ensurepip; print(sys.executable); print('.'.join(map(str, sys.version_info[:3])))"
    )
    outcome = run_program([str(path), "-c", code], timeout=60)
    lines = outcome.text.split("\n")
    if outcome.code or len(lines) < 2:
        raise ToolError(f"{path} cannot make an environment: {_last_line(outcome.text)}")
    executable, version = lines[-3:-1]
    if version.rpartition(".")[0] not in PYTHONS:
        raise ToolError(f"{path} is Python {version}; Paddle Lite's opt needs {' or '.join(PYTHONS)}")
    return Path(executable), version


def _pythons() -> Iterator[Path]:
    """Interpreters to try, the preferred version first."""
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    on_path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    usual = [Path("/usr/bin"), Path("/usr/local/bin"), Path("/opt/homebrew/bin"), home / ".local/bin"]
    seen = set()
    for version in PYTHONS:
        found = [folder / f"python{version}" for folder in [Path(sys.base_prefix) / "bin", *on_path, *usual]]
        for pattern, root in (
            (f"versions/{version}*/bin/python", pyenv),
            (f"*/bin/python{version}", Path("/opt")),
            (f"*/{version}*/bin/python{version}", Path("/opt")),
            (f"*conda*/envs/*/bin/python{version}", home),
            (f"*forge*/envs/*/bin/python{version}", home),
            (f".local/share/uv/python/*/bin/python{version}", home),
        ):
            found += sorted(root.glob(pattern), reverse=True)
        for path in found:
            if path not in seen and path.is_file() and os.access(path, os.X_OK):
                seen.add(path)
                yield path
