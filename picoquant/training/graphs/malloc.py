"""glibc's malloc; where there is another, nothing is done."""

from __future__ import annotations

import ctypes
import sys
from typing import Any


def set_malloc(*options: tuple[int, int]) -> None:
    """Set parameters, each by its number in malloc.h."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        for key, value in options:
            mallopt(key, value)


def trim() -> None:
    """Give the system what is free."""
    found = _function("malloc_trim")
    if found is not None:
        found(0)


def _function(name: str) -> Any | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
