"""`in_threads`: order, exceptions, how far it reads ahead."""

from __future__ import annotations

import threading
import time

import pytest

from picoquant.data.readers.threads import in_threads


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(count):
    def slow_at_first(item: int) -> int:
        time.sleep(0.002 * (10 - item))
        return item * item

    assert list(in_threads(slow_at_first, range(10), count)) == [item * item for item in range(10)]
    assert list(in_threads(slow_at_first, [], count)) == []


@pytest.mark.parametrize("count", [0, 2])
def test_an_exception_comes_at_the_place_of_its_item(count):
    results = in_threads(lambda item: 12 // item, [3, 2, 0, 1], count)
    assert [next(results), next(results)] == [4, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_as_many_at_once_as_there_are_threads():
    together = threading.Barrier(3, timeout=20)  # broken unless three calls wait in it
    assert sorted(in_threads(lambda item: together.wait(), range(6), 3)) == [0, 0, 1, 1, 2, 2]


def test_items_are_read_as_they_are_needed_and_threads_end():
    read = []

    def items():
        for item in range(100):
            read.append(item)
            yield item

    before = threading.active_count()
    results = in_threads(str, items(), 2)
    assert read == []
    assert next(results) == "0"
    assert len(read) == 5  # two for each thread, and one in place of what was taken
    results.close()
    assert threading.active_count() == before
