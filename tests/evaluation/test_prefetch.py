"""Items made in a thread: order, errors, and ending early."""

from __future__ import annotations

import threading

import pytest

from picoquant.evaluation.prefetch import prefetched


def test_gives_all_items_in_order():
    assert list(prefetched(range(50), depth=2)) == list(range(50))


def test_raises_what_the_source_raises_after_what_came_before():
    def source():
        yield 1
        raise ValueError("broken image")

    items = prefetched(source(), depth=2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken image"):
        next(items)


def test_leaves_no_thread_behind_when_ended_early():
    before = threading.active_count()
    items = prefetched(range(10**9), depth=2)
    assert next(items) == 0
    items.close()
    assert threading.active_count() == before


def test_is_at_most_depth_ahead():
    taken = []

    def source():
        for number in range(100):
            taken.append(number)
            yield number

    items = prefetched(source(), depth=2)
    for _ in range(10):
        next(items)
    assert len(taken) <= 10 + 2 + 1  # used, ready, and the one that waits for room
    items.close()
