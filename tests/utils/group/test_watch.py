"""Three processes' watches, in one process: who is told what when one ends."""

from __future__ import annotations

import socket
import time

import pytest

from picoquant.utils.group.watch import LostProcessError, Watch

AFTER = "; start the same command on every host again, it continues from the last checkpoint"


@pytest.fixture
def three():
    ended = []
    first = Watch(0, 3, "127.0.0.1", end=ended.append, grace=0.2)
    others = [Watch(rank, 3, "127.0.0.1", first.port, end=ended.append, grace=0.2) for rank in (1, 2)]
    until(lambda: len(first._peers) == 2 and all(name.startswith("rank") for name in first._peers.values()))
    yield [first, *others], ended
    for one in (first, *others):
        one.leave()


def until(true):
    end = time.monotonic() + 5
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def told(watch) -> str:
    with pytest.raises(LostProcessError) as caught:
        watch.wait(5)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_an_error_is_told_to_all(three):
    (first, failing, last), _ = three
    failing.leave("no such image: a.jpg")
    for one in (first, last):
        text = told(one)
        assert text.startswith("the processes cannot go on: rank 1 on ")
        assert text.endswith(" has ended: no such image: a.jpg" + AFTER)


def test_a_process_that_is_killed_is_noticed_by_all(three):
    (first, killed, last), _ = three
    (connection,) = killed._peers
    killed._left = True  # what is left of it says nothing
    connection.shutdown(2)
    for one in (first, last):
        assert " has ended without a word (its log says why)" + AFTER in told(one)


def test_the_end_of_rank_0_is_noticed(three):
    (first, one, other), _ = three
    first.leave("disk full")
    assert "rank 0 on 127.0.0.1 has ended: disk full" in told(one)
    assert "rank 0 on 127.0.0.1 has ended: disk full" in told(other)


def test_a_process_that_is_done_is_missed_by_those_that_wait_for_all(three):
    (first, done, last), ended = three
    done.leave()
    for one in (first, last):
        until(lambda one=one: one._done is not None)
        one.wait_for_all(0.01, 0.1)  # it may just have been the first at the end
        with pytest.raises(LostProcessError, match="rank 1 on .* has ended before the others were done"):
            one.wait_for_all(0.01, 0.3)
        assert one.lost is None
    assert ended == []


def test_connections_of_others_do_not_count(three):
    (first, one, other), _ = three
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"rank": "x", "host": 1}\n'):
        with socket.create_connection(("127.0.0.1", first.port)) as stranger:
            stranger.sendall(said)
        until(lambda: "" not in first._peers.values())
    first.wait(0.1)
    assert len(first._peers) == 2
    other.leave("x")
    assert " has ended: x" in told(one)


def test_a_process_in_an_operation_that_does_not_return_is_ended(three):
    (first, failing, last), ended = three
    failing.leave("x")
    until(lambda: len(ended) == 2)
    assert ended[0] == ended[1] == first.lost == last.lost
