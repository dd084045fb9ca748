"""A traced graph by itself: what finds one that suits the arguments again takes as long as a small convolution."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

_OWN = ("_train_program_id", "_infer_program_id")  # of Paddle's `PartialProgramLayer`, made of its identity


class TracedGraph:
    """What a method was traced to, called with its arguments; by one thread at a time.

    Args:
        program: Paddle's layer.
        kept: what must live as long.
        after: called after each run, in its thread.
    """

    def __init__(self, program: Any, kept: Any, after: Callable[[], None] | None = None) -> None:
        self._program, self._kept, self._after = program, kept, after

    def __call__(self, *arguments: Any) -> Any:
        try:
            return self._program([list(arguments)])
        finally:
            if self._after is not None:
                self._after()

    def followed_by(self, after: Callable[[], None]) -> TracedGraph:
        """This graph, and `after` in its thread after each run."""
        return TracedGraph(self._program, self._kept, after)

    def twin(self) -> TracedGraph:
        """The same graph with memory of its own, which may run in another thread at the same time.

        It is not traced again, and shares what was made of the trace; its first run must be nobody else's first.
        """
        _ = (
            self._program.forward_program
        )  # made now, with the backward one, where it is not there: both share it
        other = copy.copy(self._program)
        for name in _OWN:
            other.__dict__.pop(name, None)
        other._legacy_scope_cache = {}
        return TracedGraph(other, self._kept, self._after)
