"""Further processes of this machine, to which the items of a piece of work are shared out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from picoquant.errors import ToolError
from picoquant.utils.device import available_cpus
from picoquant.utils.subprocesses import own_environment
from picoquant.utils.worker import Worker, WorkerEnded

_AT_MOST = 4  # processes, this one among them
_START = 0.25  # seconds until a process can do something

Item = TypeVar("Item")
Result = TypeVar("Result")


class Helpers:
    """Further processes, started when there is enough to do, ended with the block that this is the context of."""

    def __init__(self) -> None:
        script, python = Path(__file__).with_name("call.py"), Path(sys.executable)
        self._workers = [
            Worker(script, [], python, own_environment(), keep_stderr=True)
            for _ in range(min(available_cpus(), _AT_MOST) - 1)
        ]

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.close()

    def share(
        self, function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], seconds: float
    ) -> list[Result]:
        """`function(items)`, with the items shared out over the processes.

        Args:
            function: a module's, which gives a result for each item, whatever stands before and behind it.
            items: its argument.
            seconds: how long it takes in one process, about.

        What a helper did not do, because it was killed for example, is done here.
        """
        each = [0.0 if worker.started else _START for worker in self._workers]
        length = (seconds + sum(each)) / (
            1 + len(each)
        )  # of work and starts together, for all of the same length
        parts = [
            (length - start) / seconds * len(items) if seconds and length > start else 0 for start in each
        ]
        if not all(parts):
            return function(items)
        bounds = [len(items) - int(sum(parts[place:])) for place in range(len(parts))] + [len(items)]
        theirs = [items[start:stop] for start, stop in zip(bounds, bounds[1:])]
        with ThreadPoolExecutor(len(theirs) or 1) as pool:
            asked = [pool.submit(one.ask, (function, share)) for one, share in zip(self._workers, theirs)]
            found = function(items[: bounds[0]])
            for question, share in zip(asked, theirs):
                try:
                    found += question.result()
                except (WorkerEnded, ToolError):
                    found += function(share)
        return found
