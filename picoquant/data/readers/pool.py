"""Worker processes that make batches in order, kept for the life of a reader."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from picoquant import errors
from picoquant.data.images import UnreadableImageError
from picoquant.data.readers import transport, worker
from picoquant.data.readers.batches import Batch, BatchMaker, Task
from picoquant.errors import DataError, PicoquantError

LOG = logging.getLogger("picoquant")

_AHEAD = 2  # tasks that a worker has: one being made or waiting to be taken, one to go on with
_PATIENCE = 5.0  # seconds that a worker gets to end before it is killed
_START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "  # Ctrl-C is the parent's
    "sys.path[:] = {path!r}; from picoquant.data.readers.worker import main; main({handle})"
)


class WorkerPool:
    """`workers` processes, each with a copy of `maker`.

    Processes start when first needed and end with `close`, when the pool is garbage, when this process
    exits, and also when it is killed, as their sockets close then.
    """

    def __init__(self, maker: BatchMaker, workers: int) -> None:
        self._maker, self._count = maker, workers
        self._links: list[socket.socket] = []
        self._processes: list[subprocess.Popen] = []
        self._post: ThreadPoolExecutor | None = None  # sends, in order
        self._run = 0  # of the newest `batches` call
        self._busy = False  # whether workers have tasks of that call
        self._finalizer: weakref.finalize | None = None

    def batches(self, tasks: Iterable[Task]) -> Iterator[Batch]:
        """The batch of each task, in the order of the tasks, from the first that is asked for.

        Workers stay for the next call when the iterator is used up, and end when it is abandoned or
        fails. A second call ends a first one that is not used up.

        Raises: `DataError` (or another of ours) as raised in a worker, `PicoquantError` when a worker
        died.
        """
        yield from self.begin(tasks)

    def begin(self, tasks: Iterable[Task]) -> Iterator[Batch]:
        """As `batches`, with workers that start at once, and the first task's batch made whenever it is asked for.

        The other tasks wait, so that the caller's own work meanwhile is not held up by as many processes. Nor is it
        held up until the workers have taken what they work with: that is sent in a thread.
        """
        self._run += 1
        run, tasks = self._run, iter(tasks)
        if self._busy:
            self.close()
        self._busy = True
        waiting: deque[int] = deque()
        turns = cycle(range(self._count))
        try:
            self._start()
            self._hand_out(tasks, turns, waiting)
        except BaseException:
            self.close()
            raise
        return self._rest(run, tasks, turns, waiting)

    def _rest(
        self, run: int, tasks: Iterator[Task], turns: Iterator[int], waiting: deque[int]
    ) -> Iterator[Batch]:
        """Batches of the tasks that workers have, and of those behind them."""
        if run != self._run:
            raise RuntimeError("this iterator was ended by a newer one of the same reader")
        try:
            for _ in range(_AHEAD * self._count - 1):
                self._hand_out(tasks, turns, waiting)
            while waiting:
                batch = self._take(waiting.popleft())
                self._hand_out(tasks, turns, waiting)
                yield batch
                if run != self._run:
                    raise RuntimeError("this iterator was ended by a newer one of the same reader")
            self._busy = False
        finally:
            if run == self._run and self._busy:
                self.close()

    def close(self) -> None:
        """End the workers. A later `batches` starts new ones."""
        if self._finalizer is not None:
            self._finalizer()
        if self._post is not None:
            self._post.shutdown(wait=False, cancel_futures=True)
        self._finalizer, self._links, self._processes, self._post = None, [], [], None
        self._busy = False

    def _start(self) -> None:
        if self._processes:
            return
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        links, processes = [], []
        self._finalizer = weakref.finalize(self, _stop, links, processes)
        for _ in range(self._count):
            ours, theirs = socket.socketpair()
            code = _START.format(path=sys.path, handle=theirs.fileno())
            links.append(ours)
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=environment,
                    pass_fds=[theirs.fileno()],
                )
            )
            theirs.close()
        self._links, self._processes, self._post = links, processes, ThreadPoolExecutor(1)
        message = pickle.dumps((self._maker, []), protocol=pickle.HIGHEST_PROTOCOL)
        for link in links:
            self._post.submit(transport.send_bytes, link, message)

    def _hand_out(self, tasks: Iterator[Task], turns: Iterator[int], waiting: deque) -> None:
        """Give the next task, if any, to the worker whose turn it is."""
        task = next(tasks, None)
        if task is None:
            return
        which = next(turns)
        assert self._post is not None  # as workers run
        self._post.submit(transport.send, self._links[which], task)  # if it is not taken, `_take` finds out
        waiting.append(which)

    def _take(self, which: int) -> Batch:
        """Wait for the next batch of a worker."""
        try:
            head, arrays = transport.receive(self._links[which])
        except (EOFError, ConnectionError) as error:
            raise self._died(which) from error
        if head[0] == worker.ERROR:
            _, name, text, trace = head
            LOG.debug("in a data worker:\n%s", trace)
            raise _error(name, text)
        return Batch(arrays, head[1])

    def _died(self, which: int) -> PicoquantError:
        """What to say about a worker whose socket closed."""
        process = self._processes[which]
        try:
            code = process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        self.close()
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended ({code})"
        return PicoquantError(
            f"a data worker {how}; if memory ran out, use fewer workers (worker_num) or a smaller "
            "batch_size, then run the same command again"
        )


def _error(name: str, text: str) -> PicoquantError:
    """The worker's exception, as its own class when that is one of ours."""
    known = {UnreadableImageError.__name__: UnreadableImageError, **vars(errors)}
    kind = known.get(name)
    if isinstance(kind, type) and issubclass(kind, PicoquantError):
        return kind(text)
    return DataError(f"a data worker failed: {name}: {text}")


def _stop(links: list[socket.socket], processes: list[subprocess.Popen]) -> None:
    for link in links:
        link.close()
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
