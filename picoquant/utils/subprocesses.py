"""Run other programs: a crash cannot end this process, and its Python settings do not reach them."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from picoquant.errors import ToolError
from picoquant.utils.progress import duration

LOG = logging.getLogger("picoquant")

# Settings of this interpreter and its pip that would make another interpreter use the wrong packages.
_PYTHON_SETTINGS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
_ROOT = Path(__file__).parents[2]
_LOG_INTERVAL = 10.0  # seconds between two "still at it" lines


@dataclass(frozen=True)
class Outcome:
    """The result of a program.

    Attributes:
        code: its exit code; negative: the number of the signal that ended it.
        text: its output, stdout and stderr in the order of writing.
    """

    code: int
    text: str

    @property
    def ended(self) -> str:
        """`exit code 1`, or the signal's name: `SIGABRT`."""
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return signal.Signals(-self.code).name
        except ValueError:
            return f"signal {-self.code}"


def clean_environment() -> dict[str, str]:
    """This process's environment without the variables that are only for its own Python."""
    return {key: value for key, value in os.environ.items() if key not in _PYTHON_SETTINGS}


def own_environment() -> dict[str, str]:
    """This process's environment, in which `python -m picoquant...` is this picoquant, installed or not."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def run_program(
    command: Sequence[str],
    cwd: Path | None = None,
    timeout: float = 600.0,
    title: str = "",
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a program to its end and collect its output.

    Args:
        command: program and arguments.
        cwd: its working folder.
        timeout: seconds after which it is killed.
        title: name of the task; unless empty, a line that it is still running is logged every 10 s.
        environment: its environment variables; None: `clean_environment()`.

    Raises: `ToolError` when it cannot be started or does not end within `timeout`.
    """
    with tempfile.TemporaryFile() as stream:
        try:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env=clean_environment() if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise ToolError(f"cannot run {command[0]}: {error.strerror or error}") from error
        try:
            _wait(process, command, timeout, title)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        stream.seek(0)
        return Outcome(process.returncode, stream.read().decode("utf-8", "replace"))


def _wait(process: subprocess.Popen, command: Sequence[str], timeout: float, title: str) -> None:
    began = time.monotonic()
    while True:
        left = began + timeout - time.monotonic()
        if left <= 0:
            raise ToolError(f"{command[0]} did not end within {duration(timeout)} and was stopped")
        try:
            process.wait(min(_LOG_INTERVAL, left))
            return
        except subprocess.TimeoutExpired:
            if title:
                LOG.info("%s: still at it after %s", title, duration(time.monotonic() - began))
