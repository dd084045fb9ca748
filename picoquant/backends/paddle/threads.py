"""How many threads Paddle computes with, kept where its inference runtime changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from picoquant.training.graphs.openmp import openmp


@contextmanager
def threads_kept() -> Iterator[None]:
    """Behind the block Paddle computes with as many threads as before it.

    Its inference runtime sets the number for whoever opens a model, and to 1 for whoever ran one
    (`AnalysisPredictor::ZeroCopyRun`): a step of training behind it would do with one CPU.
    """
    from paddle.base import core

    library = openmp()
    before = None if library is None else library.omp_get_max_threads()
    try:
        yield
    finally:
        if before is not None:
            core.set_num_threads(before)
