"""Calls in a thread of their own, in order, while the caller goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Callable


@contextmanager
def in_background(at_most: int = 8) -> Iterator[Callable[..., None]]:
    """A function that has others called in one thread, one after the other; it waits while there are many to do.

    Args:
        at_most: calls that are not done when it returns; each may hold large arrays.

    It is for what releases Python's lock, as NumPy does with large arrays. All calls are done when the block ends.

    Raises: what a call raised, at a later call or at the end of the block.
    """
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as pool:

        def call(function: Callable[..., Any], *arguments: Any) -> None:
            waiting.append(pool.submit(function, *arguments))
            while waiting and (len(waiting) > at_most or waiting[0].done()):
                waiting.popleft().result()

        try:
            yield call
            while waiting:
                waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
