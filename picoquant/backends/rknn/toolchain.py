"""rknn-toolkit2: found where `picoquant toolchain install rknn` has put it, or in a Python that the user names."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from picoquant.backends.base import Machine
from picoquant.backends.homes import tool_homes
from picoquant.backends.interpreters import last_line
from picoquant.backends.rknn.install import COMPLETE, PACKAGE, VERSION, install_toolkit
from picoquant.errors import ToolError
from picoquant.utils.subprocesses import run_program

LOG = logging.getLogger("picoquant")

TITLE = "rknn-toolkit2"
DISTRIBUTIONS = ()  # none of this environment
OPTIONAL = True
VARIABLE = "PICOQUANT_RKNN_PYTHON"

_VERSION = f"import importlib.metadata as m; print(m.version({PACKAGE!r}))"


@dataclass(frozen=True)
class Toolkit:
    """The toolkit that was found; see `base.Found`.

    Attributes:
        version: of rknn-toolkit2.
        path: the Python that has it.
        origin: how it was found.
    """

    version: str
    path: Path
    origin: str

    @property
    def python(self) -> Path:
        """The Python that has it."""
        return self.path


def find(machine: Machine, to_run: bool = False) -> Toolkit:
    """The toolkit; see `base.Toolchain`. A version that was not tried is used, with a warning.

    Raises: `ToolError` saying what to do when it is not there.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return _checked(Path(named).expanduser(), VARIABLE)
    for home in tool_homes("rknn"):
        if (home / COMPLETE).is_file():
            return _checked(home / "bin" / "python", "picoquant's own environment")
    raise ToolError(
        "rknn-toolkit2 is not installed: run `picoquant toolchain install rknn --accept-licence`, or name a Python "
        f"that has it with the environment variable {VARIABLE}"
    )


def install(accepted: bool, python: str | Path | None = None) -> str:
    """Make its environment, see `install_toolkit`; returns a line that says what is ready and where."""
    return install_toolkit(accepted, python)


def _checked(python: Path, origin: str) -> Toolkit:
    outcome = run_program([str(python), "-c", _VERSION], timeout=60)
    if outcome.code:
        raise ToolError(
            f"{python} (from {origin}) has no rknn-toolkit2: {_ended(outcome.text)}; "
            "run `picoquant toolchain install rknn --accept-licence`"
        )
    version = last_line(outcome.text)
    if version != VERSION:
        LOG.warning("rknn-toolkit2 %s is used, picoquant was tried with %s: %s", version, VERSION, python)
    return Toolkit(version, python, origin)


def _ended(text: str) -> str:
    """The last line of a traceback."""
    return (text.strip().splitlines() or ["no message"])[-1]
