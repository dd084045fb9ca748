"""The time of a search: which trials are begun, and when one that takes longer than expected is stopped."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_OVER = 0.1  # part of the time by which the last trial may end late


class TimeUpError(Exception):
    """A trial was stopped, as Ctrl-C would have stopped it: what it keeps is saved."""


class Clock:
    """Counts from its construction.

    Args:
        seconds: that the search may take.
    """

    def __init__(self, seconds: float) -> None:
        self._allowed, self._began = seconds, time.monotonic()

    @property
    def left(self) -> float:
        """Seconds; below 0 when the time is used up."""
        return self._allowed - (time.monotonic() - self._began)

    def fits(self, seconds: float) -> bool:
        """Whether a trial of so many seconds ends in time, or late by no more than a tenth of the whole time."""
        return self.left > 0 and seconds <= self.left + _OVER * self._allowed

    @contextmanager
    def limit(self) -> Iterator[None]:
        """Stop what runs in the block when the time is over by more than a tenth; not outside the main thread.

        Raises: `TimeUpError` where it was stopped.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        rang = False

        def ring(number: int, frame: object) -> None:
            nonlocal rang
            rang = True
            signal.raise_signal(signal.SIGINT)  # so that a step in progress is completed and saved first

        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, max(self.left + _OVER * self._allowed, 0.001))
            try:
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            if not rang:
                raise
            raise TimeUpError from None
        finally:
            signal.signal(signal.SIGALRM, before)
