"""The OpenMP library that Paddle has loaded."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


@cache
def openmp() -> Any | None:
    """The OpenMP library that Paddle has loaded, where it is found."""
    if sys.platform != "linux":
        return None
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("libiomp5.so"):
            return ctypes.CDLL(line.split(maxsplit=5)[5])
    return None


@contextmanager
def awake(milliseconds: int) -> Iterator[None]:
    """Within the block threads that wait for work stay awake so long, behind it they sleep at once.

    For many small pieces of work one after another: a thread that sleeps takes as long to wake as some of them.
    """
    library = openmp()
    if library is None:
        yield
        return
    library.kmp_set_blocktime(milliseconds)
    try:
        yield
    finally:
        library.kmp_set_blocktime(0)
