"""Latency and throughput of models on runtimes."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.backends.base import Machine, load_backend
from picoquant.backends.table import BACKENDS
from picoquant.errors import UserError, in_one_line
from picoquant.paddle_program.network_input import select_inputs
from picoquant.runtimes.backends import result_name, running
from picoquant.runtimes.model import Model
from picoquant.runtimes.timing import Latency, measure
from picoquant.utils.progress import Progress
from picoquant.utils.tables import columns

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class Case:
    """One model on one runtime with one number of threads and images a call; `threads` is None where it takes none."""

    name: str
    model: str
    threads: int | None
    latency: Latency
    bytes: int
    note: str

    def as_dict(self) -> dict[str, Any]:
        """Flat, for JSON and CSV."""
        about = {"name": self.name, "model": self.model, "threads": self.threads or 0, "bytes": self.bytes}
        return {**about, **self.latency.as_dict(), "note": self.note}


def benchmark(
    models: Sequence[Model],
    backends: Sequence[str],
    threads: Sequence[int],
    batches: Sequence[int],
    repeats: int,
    warm_up: int,
    strict: bool,
    opt: str | None = None,
    known: Mapping[str, str] = BACKENDS,
) -> tuple[list[Case], dict[str, str]]:
    """Time every model on every runtime; the input is noise, which costs what an image costs.

    Args:
        models, backends: which.
        threads: CPU threads; 0 for all.
        batches: images a call.
        repeats: calls that are counted; warm_up: calls after the first that are not.
        strict: a runtime that does not take a model is an error.
        opt: Paddle Lite's opt.
        known: all backends, see `table.BACKENDS`.

    Returns: the cases, and why others did not run.
    """
    cases: list[Case] = []
    not_run: dict[str, str] = {}
    jobs = list(_jobs(models, backends, threads, known))
    progress = Progress("benchmark", len(jobs), "case")
    for done, (model, backend, count) in enumerate(jobs, 1):
        name = result_name(backend, model.precision)
        try:
            with running(model, backend, Machine(count or 0, opt=opt), known=known) as ready:
                for batch in batches:
                    feed = noise(ready.predict.input_names, model.config.input_size, batch)
                    latency = measure(ready.predict, [feed], repeats, warm_up)
                    cases.append(Case(name, model.name, count, latency, ready.bytes, ready.note))
        except (
            Exception
        ) as error:  # whatever a runtime raises, it costs its own case alone, unless it was asked for
            fits = model.precision in load_backend(backend, known).precisions
            if strict and (
                fits or len({other.precision for other in models}) == 1 or not isinstance(error, UserError)
            ):
                raise
            not_run[name] = in_one_line(error)
            LOG.debug("%s", name, exc_info=True)
        progress.update(done)
    progress.close()
    return cases, not_run


def _jobs(
    models: Sequence[Model], backends: Sequence[str], threads: Sequence[int], known: Mapping[str, str]
) -> Iterator[tuple[Model, str, int | None]]:
    for model in models:
        for backend in backends:
            for count in threads if load_backend(backend, known).takes_threads else (None,):
                yield model, backend, count


def noise(names: Sequence[str], size: tuple[int, int], batch: int) -> dict[str, np.ndarray]:
    """A feed of `batch` images, 0 to 1, the same each time."""
    random = np.random.default_rng(0)
    made = {
        "image": random.random((batch, 3, *size), np.float32),
        "scale_factor": np.ones((batch, 2), np.float32),
        "im_shape": np.tile(np.array(size, np.float32), (batch, 1)),
    }
    return select_inputs(made, names)


def as_table(cases: Sequence[Case], not_run: dict[str, str]) -> str:
    """For a person; milliseconds a call."""
    lines = [["", "threads", "batch", "first ms", "median", "p90", "p99", "images/s", "MB"]]
    for case in cases:
        found = case.latency
        times = (found.first_ms, found.median_ms, found.p90_ms, found.p99_ms, found.images_per_second)
        threads = "its own" if case.threads is None else str(case.threads or "all")
        numbers = (f"{value:.1f}" for value in times)
        lines.append([case.name, threads, str(found.batch), *numbers, f"{case.bytes / 1e6:.2f}"])
    notes = dict.fromkeys(f"{case.name}: {case.note}" for case in cases if case.note)
    said = [*notes, *(f"{name}: not run, {reason}" for name, reason in not_run.items())]
    return "\n".join([columns(lines), *said])


def as_csv(cases: Sequence[Case]) -> str:
    """A row a case."""
    text = io.StringIO()
    rows = [case.as_dict() for case in cases]
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()
