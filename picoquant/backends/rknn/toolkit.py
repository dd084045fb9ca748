"""rknn-toolkit2 in a process of its own, in the environment that it is installed in."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.rknn.toolchain import Toolkit
from picoquant.errors import ToolError
from picoquant.utils.subprocesses import clean_environment
from picoquant.utils.worker import Worker, WorkerEnded

_WORKER = Path(__file__).with_name("toolkit_worker.py")
_PRINTED = "printed.txt"  # as the worker calls it
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"^E (?:RKNN: \[[0-9:.]+\] )?(.+)$|^(\w*(?:Error|Exception)(?:: .*|$))", re.M)
_TRACE = "Traceback"


class Session:
    """One process of the toolkit; use it in a `with`.

    Args:
        tool: see `toolchain.find`.
    """

    def __init__(self, tool: Toolkit) -> None:
        self._tool = tool
        self._scratch = tempfile.TemporaryDirectory(prefix="picoquant-rknn-")
        self._worker = Worker(
            _WORKER, (self._scratch.name,), tool.python, clean_environment(), keep_stderr=True
        )

    def __enter__(self) -> Session:
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()
        self._scratch.cleanup()

    def build(self, model: Path, platform: str, out: Path) -> str:
        """Make an `.rknn`; returns what the toolkit printed.

        Args:
            model: see `form.make_form`.
            platform: the toolkit's name of the chip.
            out: the `.rknn`.

        Raises: `ToolError` with the toolkit's own word when it refuses the model, with the signal when it crashes.
        """
        return self._ask(
            f"does not build {model.name} for {platform}", "build", str(model), platform, str(out)
        )

    def simulate(self, model: Path, platform: str) -> None:
        """Load a model into the simulator, for `run`.

        Raises: as `build`.
        """
        self._ask(f"does not simulate {model.name} for {platform}", "simulate", str(model), platform)

    def run(self, inputs: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """One call of the network that is loaded.

        Args:
            inputs: float32 `[1, C, H, W]`.

        Returns: seconds that it took, and the outputs, float32.

        Raises: as `build`.
        """
        given = [(value.shape, np.ascontiguousarray(value, "<f4").tobytes()) for value in inputs]
        seconds, results = self._ask("does not run the network", "run", given)
        return seconds, [np.frombuffer(content, "<f4").reshape(shape) for shape, content in results]

    def _ask(self, fails: str, *question: Any) -> Any:
        """An answer; `fails` says what the toolkit could not do otherwise."""
        title = f"rknn-toolkit2 {self._tool.version}"
        try:
            done, said = self._worker.ask(question)
        except WorkerEnded as error:
            printed = Path(self._scratch.name) / _PRINTED
            text = printed.read_text(encoding="utf-8", errors="replace") if printed.is_file() else ""
            said = reason(f"{error.outcome.text}\n{text}")
            raise ToolError(f"{title} {fails} ({error.outcome.ended}): {said}") from error
        if not done:
            raise ToolError(f"{title} {fails}: {reason(said)}")
        return said


def reason(text: str) -> str:
    """The line of the toolkit's output that says what is wrong: the first error, of a traceback its last line."""
    found = [(first or last).strip() for first, last in _ERROR.findall(_COLOUR.sub("", text))]
    telling = [line for line in found if _TRACE not in line and "toolkit2 version" not in line]
    raised = [line for line in telling if re.match(r"\w*(Error|Exception)", line)]
    lines = [line.strip() for line in _COLOUR.sub("", text).splitlines() if line.strip()]
    return ((raised or telling)[:1] or lines[-1:] or ["no message"])[0]
