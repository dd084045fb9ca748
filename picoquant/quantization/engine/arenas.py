"""glibc's arenas, of which each thread has one: what a thread frees in its own, others do not get."""

from __future__ import annotations

from picoquant.training.graphs.malloc import set_malloc

_M_ARENA_MAX = -8  # of glibc's malloc.h


def use_one_arena() -> None:
    """Let threads that begin from now on take their memory from one arena; without glibc, do nothing.

    Two threads that each run a graph held some 150 MB more with an arena each, and were no faster.
    """
    set_malloc((_M_ARENA_MAX, 1))
