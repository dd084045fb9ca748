"""Calls in the background."""

from __future__ import annotations

import threading
import time

import pytest

from picoquant.utils.background import in_background


def test_calls_are_made_in_order_by_one_thread_and_are_done_at_the_end():
    done, threads = [], set()

    def add(number: int) -> None:
        time.sleep(0.001 * (number % 3))
        done.append(number)
        threads.add(threading.get_ident())

    with in_background() as call:
        for number in range(50):
            call(add, number)
    assert done == list(range(50))
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_few_calls_wait_at_a_time():
    # What waits holds memory: the caller has to wait for the first of many.
    started, go_on = [], threading.Event()

    def wait(number: int) -> None:
        started.append(number)
        go_on.wait()

    threading.Timer(0.2, go_on.set).start()
    with in_background() as call:
        for number in range(20):
            call(wait, number)
            if not go_on.is_set():
                assert number <= 8
    assert len(started) == 20


@pytest.mark.parametrize("calls", [1, 30])
def test_what_a_call_raises_is_raised_here(calls: int):
    def divide(number: int) -> None:
        1 / number

    with pytest.raises(ZeroDivisionError), in_background() as call:
        for number in range(calls):
            call(divide, number)


def test_what_the_block_raises_is_raised_and_no_call_is_left():
    done = []
    with pytest.raises(KeyError), in_background() as call:
        call(time.sleep, 0.05)
        call(done.append, 1)
        raise KeyError
    before = list(done)
    time.sleep(0.1)
    assert done == before
