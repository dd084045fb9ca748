"""A tool in a process of its own, in the environment that it is installed in, asked one question after the other."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.own_environment import answering
from picoquant.backends.own_environment.package import OwnTool
from picoquant.errors import ToolError
from picoquant.utils.subprocesses import clean_environment
from picoquant.utils.worker import Worker, WorkerEnded

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What tools begin the line with that says what is wrong.
_ERROR = re.compile(
    r"^E (?:RKNN: \[[0-9:.]+\] )?(.+)$|^(\w*(?:Error|Exception)(?:: .*|$))"
    r"|((?:Assertion `|LLVM ERROR: |error: ).+)$",
    re.M,
)
_DIED = re.compile(r"ended with (SIG[A-Z]+)$", re.M)  # as a script says of a program that it runs
_KILLED = "so the system ends what takes more memory than there is; end other programs first"
_RAISED = re.compile(r"\w*(Error|Exception)")
_NOT_TELLING = ("Traceback", "toolkit2 version")


class Session:
    """One process of a tool; use it in a `with`.

    Args:
        tool: see `package.find_package_tool`.
        script: the tool's side, see `answering.py`.
        environment: variables that the tool needs beside the usual ones.
        names: of the network's tensors, among which an operator is looked for when the process dies.
    """

    def __init__(
        self,
        tool: OwnTool,
        script: Path,
        environment: Mapping[str, str] | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self._tool, self._names = tool, tuple(names)
        self._scratch = tempfile.TemporaryDirectory(prefix="picoquant-tool-")
        self._worker = Worker(
            Path(answering.__file__),
            (str(script), self._scratch.name),
            tool.python,
            {**clean_environment(), "PYTHONHASHSEED": "0", **(environment or {})},  # the same file each time
            keep_stderr=True,
        )

    def __enter__(self) -> Session:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
        self._scratch.cleanup()

    def ask(self, fails: str, *question: Any) -> tuple[Any, str]:
        """An answer, and what the tool printed.

        Args:
            fails: what the tool could not do otherwise, for messages: `does not build a.onnx for rk3588`.
            question: name and arguments of a function of the script, of Python's built-in types.

        Raises: `ToolError` with the tool's own word when it refuses, with the signal when it crashes and the operator
            that it last spoke of.
        """
        title = f"{self._tool.title} {self._tool.version}"
        try:
            done, value, said = self._worker.ask(question)
        except WorkerEnded as error:
            printed = Path(self._scratch.name) / answering.PRINTED
            text = printed.read_text(encoding="utf-8", errors="replace") if printed.is_file() else ""
            text = f"{error.outcome.text}\n{text}"
            said = _KILLED if error.outcome.ended == "SIGKILL" else reason(text)
            raise ToolError(f"{title} {fails} ({error.outcome.ended}{self._blamed(text)}): {said}") from error
        if not done:
            died = _DIED.search(said)
            how = f" ({died[1]}{self._blamed(said)})" if died else ""
            raise ToolError(f"{title} {fails}{how}: {reason(said)}")
        return value, said

    def call(self, fails: str, inputs: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """What the script's function `run` makes of arrays.

        Args:
            fails: see `ask`.
            inputs: float32.

        Returns: seconds that it took, and the outputs, float32.

        Raises: as `ask`.
        """
        given = [(value.shape, np.ascontiguousarray(value, "<f4").tobytes()) for value in inputs]
        (seconds, results), _ = self.ask(fails, "run", given)
        return seconds, [np.frombuffer(content, "<f4").reshape(shape) for shape, content in results]

    def _blamed(self, text: str) -> str:
        """The last of the network's tensors that the tool spoke of."""
        places = {name: text.rfind(name) for name in self._names}
        last = max(places, key=lambda name: (places[name], len(name)), default="")
        return f", it last spoke of operator {last}" if places.get(last, -1) >= 0 else ""


def reason(text: str) -> str:
    """The line of a tool's output that says what is wrong: the first error, of a traceback its last line."""
    text = _COLOUR.sub("", text)
    found = [next(filter(None, groups), "").strip() for groups in _ERROR.findall(text)]
    telling = [line for line in found if not any(part in line for part in _NOT_TELLING)]
    raised = [line for line in telling if _RAISED.match(line)]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ((raised or telling)[:1] or lines[-1:] or ["no message"])[0]
