"""A process that answers questions, one at a time, both pickled, over its stdin and stdout."""

from __future__ import annotations

import pickle
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from picoquant.errors import ToolError
from picoquant.utils import serve
from picoquant.utils.subprocesses import Outcome

_PATIENCE = 60.0  # seconds in which a worker has to end before it is killed


class WorkerEnded(Exception):  # noqa: N818  what happened, not yet anybody's error
    """A worker ended instead of answering.

    Attributes:
        outcome: how it ended, and its stderr if that was kept.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.ended)
        self.outcome = outcome


class Worker:
    """A worker process, started by the first question.

    It ends when its stdin is closed, by `close` or because this process ends or is killed. If it runs in
    another Python than this one, questions and answers must consist of Python's built-in types.

    Args:
        script: a file with a function `answerer`, which returns the function that answers a question; an
            exception in that function ends the worker.
        arguments: strings passed to `answerer`.
        python: the interpreter, 3.8 or later.
        environment: its environment variables.
        cwd: its working folder; None: that of this process.
        keep_stderr: keep its stderr for `WorkerEnded`; otherwise it is written to this process's stderr.
    """

    def __init__(
        self,
        script: Path,
        arguments: Sequence[str],
        python: Path,
        environment: Mapping[str, str],
        cwd: Path | None = None,
        keep_stderr: bool = False,
    ) -> None:
        self._command = [str(python), serve.__file__, str(script), *arguments]
        self._environment, self._cwd = dict(environment), cwd
        self._keep_stderr = keep_stderr
        self._stderr: Any = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def started(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None

    def start(self) -> None:
        """Start the process, unless it runs; the first question does it, too.

        Raises: `ToolError` when the interpreter cannot be started.
        """
        self._running()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        self._stderr = tempfile.TemporaryFile() if self._keep_stderr else None  # noqa: SIM115  closed in close()
        try:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
            )
        except OSError as error:
            raise ToolError(f"cannot run {self._command[0]}: {error.strerror or error}") from error
        return self._process

    def ask(self, question: Any) -> Any:
        """The answer to a question.

        Raises: `WorkerEnded` when there is none, `ToolError` as `start`.
        """
        process = self._running()
        assert process.stdin and process.stdout  # both are pipes
        try:
            pickle.dump(question, process.stdin, serve.PROTOCOL)
            process.stdin.flush()
            return pickle.load(process.stdout)  # trusted: written by our own worker
        except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
            raise WorkerEnded(self._outcome(process)) from error

    def close(self) -> None:
        """End the process; the next question starts another."""
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):  # it has ended before
                    if pipe is not None:
                        pipe.close()
            _end(process)
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _outcome(self, process: subprocess.Popen[bytes]) -> Outcome:
        code, text = _end(process), ""
        if self._stderr is not None:
            self._stderr.seek(0)
            text = self._stderr.read().decode("utf-8", "replace")
        return Outcome(code, text)


def _end(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process to end, killing it after `_PATIENCE` seconds; returns its exit code."""
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
