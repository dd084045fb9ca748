"""Other Pythons of this machine, for tools that need an environment of their own: found, and used to make one."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from picoquant.errors import ToolError
from picoquant.utils.subprocesses import run_program

LOG = logging.getLogger("picoquant")


def find_python(versions: Sequence[str], tool: str, command: str) -> tuple[Path, str]:
    """The path and the version of an interpreter that can make environments.

    Args:
        versions: that will do, the preferred first: `3.10`.
        tool: that needs it, for messages.
        command: with which the user names one, for messages.

    Raises: `ToolError` saying what to do when there is none.
    """
    refused = []
    for path in _pythons(versions):
        try:
            return checked_python(path, versions, tool)
        except ToolError as error:
            refused.append(str(error))
    for reason in refused:
        LOG.info("passed over: %s", reason)
    either, first = " or ".join(versions), versions[0]
    raise ToolError(
        f"{tool} needs a Python {either} and none was found (looked on PATH, in the folders of "
        f"pyenv, conda and uv, /usr, /usr/local and /opt): install one (for example `pyenv install {first}`, or "
        f"your system's python{first} and python{first}-venv), or name it: {command} --python PATH"
    )


def checked_python(path: Path, versions: Sequence[str], tool: str) -> tuple[Path, str]:
    """The interpreter's own path and version.

    Args:
        path: the program.
        versions, tool: see `find_python`.

    Raises: `ToolError` when it does not run, is another version, or cannot make environments.
    """
    code = (
        "import sys, venv, ensurepip; print(sys.executable); print('.'.join(map(str, sys.version_info[:3])))"
    )
    outcome = run_program([str(path), "-c", code], timeout=60)
    lines = outcome.text.split("\n")
    if outcome.code or len(lines) < 2:
        raise ToolError(f"{path} cannot make an environment: {last_line(outcome.text)}")
    executable, version = lines[-3:-1]
    if version.rpartition(".")[0] not in versions:
        raise ToolError(f"{path} is Python {version}; {tool} needs {' or '.join(versions)}")
    return Path(executable), version


def make_environment(folder: Path, interpreter: Path, version: str) -> None:
    """Make an empty environment.

    Raises: `ToolError` when the interpreter cannot.
    """
    LOG.info("making %s with Python %s (%s)", folder, version, interpreter)
    outcome = run_program([str(interpreter), "-m", "venv", str(folder)], title="venv")
    if outcome.code:
        raise ToolError(f"{interpreter} could not make {folder}: {last_line(outcome.text)}")


def is_half_made(environment: Path) -> bool:
    """Whether a killed installation left it: a virtual environment begins with this file or folder."""
    return (environment / "pyvenv.cfg").is_file() or {path.name for path in environment.iterdir()} <= {
        "bin",
        "include",
        "lib",
        "lib64",
    }


def last_line(text: str) -> str:
    """The line of a program's output that says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]


def _pythons(versions: Sequence[str]) -> Iterator[Path]:
    """Interpreters to try, the preferred version first."""
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    on_path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    usual = [Path("/usr/bin"), Path("/usr/local/bin"), Path("/opt/homebrew/bin"), home / ".local/bin"]
    seen = set()
    for version in versions:
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
