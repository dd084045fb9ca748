"""What is said where processes cannot meet."""

from __future__ import annotations

import socket
import time

import pytest

from picoquant.errors import UserError
from picoquant.utils.device import available_cpus
from picoquant.utils.group.join import meeting_point, require_free, wait_for


@pytest.fixture
def taken():
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use(taken):
    with pytest.raises(
        UserError, match=f"port {taken}, which the processes are to meet at, cannot be used here"
    ):
        require_free(taken)


def test_a_port_that_is_free(taken):
    with socket.create_server(("", 0)) as server:
        free = server.getsockname()[1]
    require_free(free)


def test_rank_0_is_waited_for_and_missed(taken):
    wait_for("127.0.0.1", taken, 1, 0)
    with socket.create_server(("", 0)) as server:
        free = server.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(
        UserError, match=rf"rank 3 found nobody at 127.0.0.1:{free} in 0.3 s \(Connection refused\)"
    ):
        wait_for("127.0.0.1", free, 3, 0.3)
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"PADDLE_MASTER": "10.0.0.1:7", "PADDLE_TRAINER_ENDPOINTS": "a:1,b:2"}, ("10.0.0.1", 7)),
        ({"PADDLE_TRAINER_ENDPOINTS": "a:1,b:2"}, ("a", 1)),
    ],
)
def test_the_launcher_says_where(monkeypatch, environment, found):
    for name in ("PADDLE_MASTER", "PADDLE_TRAINER_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert meeting_point() == found


def test_a_launcher_that_says_nothing(monkeypatch):
    for name in ("PADDLE_MASTER", "PADDLE_TRAINER_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="start several processes by python -m paddle.distributed.launch"):
        meeting_point()


def test_processes_of_one_host_share_its_cpus(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda number: set(range(8)), raising=False)
    monkeypatch.delenv("PADDLE_LOCAL_SIZE", raising=False)
    monkeypatch.setenv("PADDLE_CURRENT_ENDPOINT", "a:1")
    monkeypatch.setenv("PADDLE_TRAINER_ENDPOINTS", "a:1,b:1,a:2,a:3")
    assert available_cpus() == 2  # 8 for three
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "4")
    assert available_cpus() == 2
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", "20")
    assert available_cpus() == 1
