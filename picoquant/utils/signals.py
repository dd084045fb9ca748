"""Defer SIGINT and SIGTERM until a step is complete."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """Within the block the first SIGINT or SIGTERM is only recorded; it is raised again after the block.

    So the previous handler (KeyboardInterrupt for Ctrl-C) runs when the state is saved. A second signal is
    handled at once. If the block raises, the signal is dropped. Outside the main thread this does nothing.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    @property
    def stop(self) -> bool:
        """Whether a signal was received and deferred."""
        return self._received is not None

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore_handlers()
        if self._received is not None and error is None:
            signal.raise_signal(self._received)

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
