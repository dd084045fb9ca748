"""Messages between reader and workers: a pickled head, then arrays as they lie in memory.

Arrays are received straight into their own memory, with no pickling and no copy in between.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Any

import numpy as np

_LENGTH = struct.Struct("!Q")


def send(link: socket.socket, head: Any, arrays: dict[str, np.ndarray] | None = None) -> None:
    """Send one message. Blocks until the other end has taken it.

    Raises: `ConnectionError` when the other end is gone.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
    shapes = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    send_bytes(link, pickle.dumps((head, shapes), protocol=pickle.HIGHEST_PROTOCOL))
    for array in arrays.values():
        if array.size:
            link.sendall(memoryview(array).cast("B"))


def send_bytes(link: socket.socket, data: bytes) -> None:
    """Send what `pickle.dumps((head, shapes))` gave."""
    link.sendall(_LENGTH.pack(len(data)))
    link.sendall(data)


def receive(link: socket.socket) -> tuple[Any, dict[str, np.ndarray]]:
    """Wait for one message: its head and arrays.

    Raises: `EOFError` or `ConnectionError` when the other end is gone.
    """
    length = bytearray(_LENGTH.size)
    _fill(link, memoryview(length))
    data = bytearray(_LENGTH.unpack(length)[0])
    _fill(link, memoryview(data))
    head, shapes = pickle.loads(data)  # noqa: S301  both ends are this program
    arrays = {}
    for name, kind, shape in shapes:
        array = np.empty(shape, np.dtype(kind))
        if array.size:
            _fill(link, memoryview(array).cast("B"))
        arrays[name] = array
    return head, arrays


def _fill(link: socket.socket, target: memoryview) -> None:
    done = 0
    while done < len(target):
        count = link.recv_into(target[done:])
        if count == 0:
            raise EOFError("the other end closed the connection")
        done += count
