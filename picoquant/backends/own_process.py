"""A runtime in a process of its own: a crash inside it is one line, and ends nothing else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.base import Tensors
from picoquant.errors import PicoquantError, ToolError
from picoquant.utils.program_log import blame
from picoquant.utils.subprocesses import own_environment
from picoquant.utils.worker import Worker, WorkerEnded

LOG = logging.getLogger("picoquant")

_WORKER = Path(__file__).with_name("own_process_worker.py")


class OwnProcess:
    """A predictor that lives in another process of the same Python; use it in a `with`.

    After a crash the next call starts it anew.

    Args:
        title: of the runtime, for people.
        predictor: a class whose instances are predictors for images of one size, see `base.Predictor`.
        path: of the file that it opens, its first argument.
        arguments: the others.

    Attributes:
        input_names: what a feed must hold.
        inputs, outputs: names and shapes; the batch is -1.
        network_seconds, network_cpu_seconds: how long the network took in the last call, by the clock and of all its
            threads; handing values over does not count.
    """

    def __init__(self, title: str, predictor: type, path: Path, *arguments: Any) -> None:
        self._title, self._path = title, path
        self._opens = (f"{predictor.__module__}:{predictor.__qualname__}", path, *arguments)
        self._worker = Worker(_WORKER, (), Path(sys.executable), own_environment(), keep_stderr=True)
        self.input_names: tuple[str, ...] = ()
        self.inputs: Tensors = ()
        self.outputs: Tensors = ()
        self.network_seconds = self.network_cpu_seconds = 0.0

    def __enter__(self) -> OwnProcess:
        try:
            self._open()
        except BaseException:
            self._worker.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch of any size.

        Raises: `ToolError` for images of another size than the model's, with the runtime's own word when it refuses
            them, and with the signal when it crashes.
        """
        for name, shape in self.inputs:
            if name not in feed:
                raise ToolError(f"{self._path.name} takes {name}, which no image has: export the model again")
            if feed[name].shape[1:] != shape[1:]:
                raise ToolError(
                    f"{self._path.name} takes {name} of {list(shape[1:])}, not {list(feed[name].shape[1:])}: "
                    "export it for that size"
                )
        if not self._worker.started:
            self._open()
        given = {name: np.ascontiguousarray(feed[name]) for name in self.input_names}
        self.network_seconds, self.network_cpu_seconds, outputs = self._ask("does not run", "run", given)
        return outputs

    def _open(self) -> None:
        self.inputs, self.outputs = self._ask("does not take", "open", *self._opens)
        self.input_names = tuple(name for name, _ in self.inputs)

    def _ask(self, fails: str, *question: Any) -> Any:
        """An answer; `fails` says what the runtime could not do otherwise."""
        try:
            error, answer = self._worker.ask(question)
        except WorkerEnded as ended:
            self._worker.close()
            # What is printed before an abort is its reason; before another signal it is anything.
            said = blame(ended.outcome.text) if ended.outcome.ended == "SIGABRT" else ""
            said = f" ({said})" if said else ""
            raise ToolError(
                f"{self._title} {fails} {self._path}: it ended with {ended.outcome.ended}, a crash of its own{said}; "
                "make the file again, or take another runtime"
            ) from ended
        if isinstance(error, Exception):
            raise error
        if error:
            LOG.debug("%s", error)
            raise PicoquantError(f"{self._title} {fails} {self._path}: {error.strip().splitlines()[-1]}")
        return answer
