"""A worker process: takes tasks from its socket, sends batches back, ends when the socket closes.

It is a fresh interpreter, not a fork: the parent may have loaded paddle, whose threads do not survive a
fork. It never imports paddle.
"""

from __future__ import annotations

import logging
import socket
import traceback

from picoquant.data.readers import transport
from picoquant.data.readers.batches import Batch, BatchMaker, Task

BATCH, ERROR = "batch", "error"  # first part of an answer's head


def main(handle: int) -> None:
    """Serve the socket with file descriptor `handle` until its other end closes."""
    logging.getLogger("picoquant").addHandler(logging.NullHandler())
    import cv2

    cv2.setNumThreads(0)
    with socket.socket(fileno=handle) as link:
        try:
            maker, _ = transport.receive(link)
            while True:
                task, _ = transport.receive(link)
                _answer(link, maker, task)
        except (EOFError, ConnectionError):
            return


def _answer(link: socket.socket, maker: BatchMaker, task: Task) -> None:
    try:
        batch: Batch = maker.make(task)
    except Exception as error:  # whatever it is, the parent raises it
        name, text = type(error).__name__, str(error)
        transport.send(link, (ERROR, name, text, traceback.format_exc()))
    else:
        transport.send(link, (BATCH, batch.notes), batch.arrays)
