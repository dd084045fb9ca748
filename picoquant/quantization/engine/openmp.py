"""OpenMP's threads, of which each thread of a process has a number of its own."""

from __future__ import annotations

from picoquant.training.graphs.openmp import openmp


def use_threads(count: int) -> None:
    """Let what the calling thread runs from now on, in Paddle, run in so many; without Intel's OpenMP, do nothing."""
    library = openmp()
    if library is not None:
        library.omp_set_num_threads(count)
