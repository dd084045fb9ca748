"""A window in which drawn frames are seen, where there is a display."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

LOG = logging.getLogger("picoquant")

_NAME = "picoquant"
_STOP_KEYS = (ord("q"), ord("Q"), 27)  # 27: Esc
_SECONDS = 30  # for a display to answer
_PROBE = f"import cv2; cv2.namedWindow('{_NAME}'); cv2.waitKey(1); cv2.destroyAllWindows()"


def no_display() -> str:
    """Why no window can be opened, one line; empty where one can.

    A process of its own tries it first: OpenCV's Qt ends the whole process where the display does not answer.
    """
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return "there is no display (DISPLAY and WAYLAND_DISPLAY are not set)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, errors="replace", timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"the display did not answer for {_SECONDS} s"
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return f"OpenCV opens none here: {said[-1][:160] if said else 'it says nothing'}"


@contextmanager
def window_for(camera: bool, asked: bool | None) -> Iterator[Window | None]:
    """A window while it is needed; None where none is wanted, or none can be opened, which one line says.

    Args:
        camera: whether frames are a camera's, which are shown unless `asked` says no.
        asked: what the user says; None: nothing.
    """
    reason = ""
    if not (camera if asked is None else asked) or (reason := no_display()):
        if reason:
            LOG.warning("predict: no window: %s; going on without", reason)
        yield None
        return
    window = Window()
    try:
        yield window
    finally:
        window.close()


class Window:
    """Shows one frame after the other; `q`, Esc or closing it asks to stop."""

    def __init__(self) -> None:
        """Open it; see `no_display`."""
        import cv2

        self._cv2 = cv2
        self._last = time.perf_counter()
        self._rate = 0.0
        cv2.namedWindow(_NAME, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, image: np.ndarray, title: str, stays: bool) -> bool:
        """Show a frame.

        Args:
            image: `[H, W, 3]` uint8 RGB.
            title: what it is of; the frame rate is written behind it.
            stays: whether it stays until a key is pressed, as pictures do.

        Returns: whether to go on.
        """
        cv2 = self._cv2
        now = time.perf_counter()
        rate = 1 / max(now - self._last, 1e-9)
        self._rate, self._last = (0.9 * self._rate + 0.1 * rate if self._rate else rate), now
        cv2.imshow(_NAME, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        cv2.setWindowTitle(_NAME, title if stays else f"{title}, {self._rate:.1f} images/s")
        while True:
            key = cv2.waitKey(50 if stays else 1)
            if key in _STOP_KEYS or cv2.getWindowProperty(_NAME, cv2.WND_PROP_VISIBLE) < 1:
                return False
            if not stays or key >= 0:
                return True

    def close(self) -> None:
        """Close it."""
        self._cv2.destroyAllWindows()
