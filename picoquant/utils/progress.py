"""Show progress as a line with step, values, speed and time left.

On a terminal the line is rewritten in place, from the third second on, so that short work shows none.
Elsewhere a line is logged at once and then every ten seconds, so that a log file stays short.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque

LOG = logging.getLogger("picoquant")

_TERMINAL_INTERVAL = 0.2  # seconds between rewrites of the line
_TERMINAL_DELAY = 2.0  # seconds before the first line
_LOG_INTERVAL = 10.0  # seconds between lines in a log
_WINDOW = 60.0  # seconds over which speed is measured: a slow first step is soon forgotten


def duration(seconds: float) -> str:
    """Seconds as readable text: `8s`, `2m05s`, `1h03m`."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


def _value(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _lines_are_shown() -> bool:
    """Whether stderr shows more than warnings; a file beside it may have every line all the same."""
    shown = [handler.level for handler in LOG.handlers if not isinstance(handler, logging.FileHandler)]
    return LOG.isEnabledFor(logging.INFO) and min(shown, default=logging.INFO) <= logging.INFO


class Progress:
    """Shows the progress of one task.

    Args:
        title: what is being done, for example `train`.
        total: number of steps; 0 if unknown.
        unit: what one step is, for example `step` or `image`.
        start: the step that an interrupted run continues from.
    """

    def __init__(self, title: str, total: int, unit: str = "step", start: int = 0) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._began = time.monotonic()
        self._done: deque[tuple[float, int]] = deque([(self._began, start)])
        self._shown = 0.0
        self._on_terminal = sys.stderr.isatty() and _lines_are_shown()
        self._open_line = False

    def update(self, step: int, **values: float) -> None:
        """Report that `step` steps are done; `values` (loss, lr …) are shown beside it."""
        now = time.monotonic()
        self._done.append((now, step))
        while len(self._done) > 2 and now - self._done[1][0] > _WINDOW:
            self._done.popleft()
        interval = _TERMINAL_INTERVAL if self._on_terminal else _LOG_INTERVAL
        last = bool(self._total) and step >= self._total
        if not last and self._shown and now - self._shown < interval:
            return
        if self._on_terminal and now - self._began < _TERMINAL_DELAY:
            return
        self._shown = now
        line = self._line(step, now, values)
        if self._on_terminal:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
            self._open_line = True
            if last:
                self.close()
        else:
            LOG.info("%s", line)

    def close(self) -> None:
        """End the line on a terminal, so that the next message starts on its own."""
        if self._open_line:
            sys.stderr.write("\n")
            sys.stderr.flush()
            self._open_line = False

    def _line(self, step: int, now: float, values: dict[str, float]) -> str:
        start, first = self._done[0]
        done, elapsed = step - first, now - start
        parts = [f"{self._title} {self._unit} {step}" + (f"/{self._total}" if self._total else "")]
        parts += [f"{name} {_value(value)}" for name, value in values.items()]
        if done > 0 and elapsed > 0:
            parts.append(f"{done / elapsed:.2f} {self._unit}/s")
            if self._total:
                left = (self._total - step) * elapsed / done
                parts.append(f"{duration(left)} left")
        return "  ".join(parts)
