"""A connection between each process and rank 0, by which all others notice at once that one is gone.

Gloo, Paddle's backend on CPU, notices it only within an operation, and a process that waits for an evaluation is in
none. So each other process holds one TCP connection to rank 0. It carries nothing but a last word; the kernel closes it
where its process ends, and its keep-alive probes where the host is gone.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable

from picoquant.errors import UserError

LOG = logging.getLogger("picoquant")

SILENCE = (
    20  # seconds after which a host that no longer answers counts as lost; gloo's operations fail after 30
)
_PROBES = 4
GRACE = 5.0  # seconds that a process has to end by itself when another is gone
_LEFT = "left"  # the last word of a process that is done


class LostProcessError(UserError):
    """Another process of the group has ended, or its host no longer answers."""


class Watch:
    """One process's side of these connections, served by a thread.

    Args:
        rank: this process's number.
        world: number of processes.
        address: host of rank 0.
        port: rank 0 listens there; of rank 0 it is ignored.
        silence: as `SILENCE`.
        end: called with the message where the process has not ended by itself so long after a loss.
        grace: seconds of that.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        address: str,
        port: int = 0,
        silence: int = SILENCE,
        end: Callable[[str], None] | None = None,
        grace: float = GRACE,
    ) -> None:
        self._rank, self._world, self._silence, self._grace = rank, world, silence, grace
        self._end = end or _end_process
        self._lost: str | None = None
        self._left = False
        self._done: str | None = None  # a process that has left, done
        self._noticed = threading.Event()
        self._peers: dict[
            socket.socket, str
        ] = {}  # and how messages name them; "" before they said who they are
        self._waiting: dict[socket.socket, bytes] = {}  # what came and is no whole line yet
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        if rank == 0:
            self._listener = socket.create_server(("", 0), backlog=world)
            self._selector.register(self._listener, selectors.EVENT_READ)
            self.port = self._listener.getsockname()[1]
        else:
            self.port = port
            connection = socket.create_connection((address, port), timeout=silence)
            connection.settimeout(None)
            _probe(connection, silence)
            connection.sendall(_line({"rank": rank, "host": socket.gethostname()}))
            self._add(connection, f"rank 0 on {address}")
        threading.Thread(target=self._serve, name="picoquant-watch", daemon=True).start()

    @property
    def lost(self) -> str | None:
        """What to say of a process that is gone; None: all are there, or have left when they were done."""
        return self._lost

    def check(self) -> None:
        """Raises: `LostProcessError` when a process is gone."""
        if self._lost is not None:
            raise LostProcessError(self._lost)

    def wait(self, seconds: float) -> None:
        """Wait so long for the loss of a process.

        Raises: as `check`.
        """
        self._noticed.wait(seconds)
        self.check()

    def wait_for_all(self, seconds: float, waited: float) -> None:
        """Wait so long for what needs all processes.

        Args:
            seconds: how long.
            waited: seconds that have passed before; a process that has left is missed after some of them.

        Raises: as `check`; also where one has left.
        """
        self.wait(seconds)
        if self._done is not None and waited > self._grace:
            raise LostProcessError(_cannot_go_on(f"{self._done} has ended before the others were done"))

    def leave(self, error: str | None = None) -> None:
        """Tell the others that this process ends: done, or because of an error that they should say, too.

        Only the first call counts.
        """
        if not self._left:
            self._left = True
            self._tell({_LEFT: error})

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if self._rank == 0 and connection is self._listener:
                    accepted, _ = self._listener.accept()
                    _probe(accepted, self._silence)
                    self._add(accepted, "")
                else:
                    self._read(connection)
            if self._lost is not None:
                break
        if self._rank == 0:
            self._tell({"lost": self._lost})
        self._noticed.set()
        time.sleep(self._grace)
        if not self._left:
            self._end(self._lost)

    def _add(self, connection: socket.socket, name: str) -> None:
        with self._lock:
            self._peers[connection] = name
        self._waiting[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        name, what = self._peers[connection], "has ended without a word (its log says why)"
        try:
            received = connection.recv(1 << 16)
        except OSError as error:
            received, what = b"", f"no longer answers ({error.strerror or error})"
        if not received:
            self._drop(connection)
            if name:
                self._lose(f"{name} {what}")
            return
        *lines, self._waiting[connection] = (self._waiting[connection] + received).split(b"\n")
        for line in lines:
            if connection in self._peers:
                self._take(connection, line)

    def _take(self, connection: socket.socket, line: bytes) -> None:
        try:
            word = json.loads(line)
            known = self._peers[connection] or f"rank {word['rank']:d} on {word['host']}"
        except (ValueError, TypeError, KeyError):  # somebody else's connection
            self._drop(connection)
            return
        if not self._peers[connection]:
            with self._lock:
                self._peers[connection] = known
        elif "lost" in word:
            self._lost = self._lost or word["lost"]
        elif "done" in word:
            self._done = word["done"]
        elif _LEFT in word:
            self._drop(connection)
            if word[_LEFT] is not None:
                self._lose(f"{known} has ended: {word[_LEFT]}")
                return
            self._done = known
            if self._rank == 0:
                self._tell({"done": known})

    def _drop(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        with self._lock:
            del self._peers[connection]
        connection.close()

    def _lose(self, what: str) -> None:
        if self._left:  # this process is done with the others
            return
        self._lost = self._lost or _cannot_go_on(what)

    def _tell(self, word: dict) -> None:
        with self._lock:
            peers = list(self._peers)
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.sendall(_line(word))


def _cannot_go_on(what: str) -> str:
    return (
        f"the processes cannot go on: {what}; start the same command on every host again, it continues from the last "
        "checkpoint"
    )


def _line(word: dict) -> bytes:
    return json.dumps(word).encode() + b"\n"


def _probe(connection: socket.socket, silence: int) -> None:
    """Let the kernel probe a connection that is silent, and close it after `silence` seconds without an answer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    pause = max(1, silence // (_PROBES + 1))
    for name, value in (
        ("TCP_KEEPIDLE", pause),
        ("TCP_KEEPINTVL", pause),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", 1000 * silence),
    ):
        if hasattr(socket, name):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _end_process(what: str) -> None:
    """End a process whose main thread is in an operation that no longer returns."""
    LOG.error("%s", what)
    os._exit(LostProcessError.exit_code)
