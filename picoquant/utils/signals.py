"""SIGINT and SIGTERM wait until a step is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredSignals:
    """Within the block the first SIGINT or SIGTERM is only noted; it is sent again after the block.

    So whoever handled them before still does (KeyboardInterrupt for Ctrl-C), with the state saved. A
    second signal is handled at once. Outside the main thread this does nothing.
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._before: dict[int, object] = {}

    @property
    def stop(self) -> bool:
        """Whether a signal waits."""
        return self._noted is not None

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()
        if self._noted is not None and error is None:
            signal.raise_signal(self._noted)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted = number
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
