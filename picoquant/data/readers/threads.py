"""Call a function on each item in threads of this process, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Callable, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2  # items of a thread: one being worked on, one to go on with


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], count: int) -> Iterator[Result]:
    """Results of `function`, in the order of `items`; what it raises is raised at its item's place.

    It helps where `function` lets go of Python's lock, as OpenCV and NumPy do. Threads start with the first
    result asked for, and end when all is used up or the iterator is closed.

    Args:
        function: may run `count` times at once.
        items: read as they are needed, at most `_AHEAD` for each thread beyond the last result.
        count: threads; 0 calls `function` in the caller's.
    """
    if not count:
        yield from map(function, items)
        return
    items = iter(items)
    with ThreadPoolExecutor(count, thread_name_prefix="reader") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            waiting.extend(pool.submit(function, item) for item in islice(items, _AHEAD * count))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(items, 1))
                yield result
        finally:
            for future in waiting:
                future.cancel()
