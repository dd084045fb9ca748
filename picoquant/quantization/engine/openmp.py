"""OpenMP's threads, of which each thread of a process has a number of its own."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def use_threads(count: int) -> None:
    """Let what the calling thread runs from now on, in Paddle, run in so many; without Intel's OpenMP, do nothing."""
    if sys.platform != "linux":
        return
    for line in _MAPS.read_text().splitlines():
        if line.endswith("libiomp5.so"):
            ctypes.CDLL(line.split(maxsplit=5)[5]).omp_set_num_threads(count)
            return
