"""Processes that a test starts, seen from outside as `ps` sees them (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def children(parent: int | None = None) -> set[int]:
    """Ids of the processes that a process started and that have not ended; by default this process's."""
    parent = os.getpid() if parent is None else parent
    return {pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _alive_child(pid, parent)}


def ended(pids: Iterable[int]) -> bool:
    """Whether there are such processes and all of them have ended."""
    pids = list(pids)
    return bool(pids) and not any(_state(pid) for pid in pids)


def _alive_child(pid: int, parent: int) -> bool:
    state = _state(pid)
    return state is not None and int(state[1]) == parent


def _state(pid: int) -> list[str] | None:
    """State and parent of a process, as proc(5) has them; None for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[:2]
