"""Run batches of any size through a model with a fixed batch size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, Union

import numpy as np

from picoquant.errors import WeightsError

MAX_BATCH = 256  # images per batch of a model; a larger number is damaged, and would allocate gigabytes
DYNAMIC = "dynamic"

Batch = Union[int, str]  # images a call, 1 to `MAX_BATCH`, or `DYNAMIC`: any number
Run = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


def in_batches(
    run: Run, feed: Mapping[str, np.ndarray], size: int, each: Callable[..., Iterable[Any]] = map
) -> list[np.ndarray]:
    """Run a batch in parts of `size` images; the last part is padded and the padding's outputs are dropped.

    Args:
        run: runs the model: arrays by input name -> outputs, the images in the first dimension (or detections
            `[M, 6]` and the number of detections per image).
        feed: the batch, arrays by input name.
        size: the model's batch size; -1: any, so the batch is run as a whole.
        each: applies a function to each part, as `map` does; that of a thread pool runs several at once.

    Returns: the outputs for the whole batch.
    Raises: `WeightsError` for a size below 1 or above 256, which no model has.
    """
    count = len(next(iter(feed.values())))
    if size in (-1, count):
        return list(run(feed))
    if not 1 <= size <= MAX_BATCH:
        raise WeightsError(f"the model takes {size} images at a time, not 1 to {MAX_BATCH}: export it again")

    def run_part(start: int) -> list[np.ndarray]:
        part = {name: value[start : start + size] for name, value in feed.items()}
        return _run_padded(run, part, size)

    parts = each(run_part, range(0, count, size))
    return [np.concatenate(values) for values in zip(*parts)]


def _run_padded(run: Run, feed: Mapping[str, np.ndarray], size: int) -> list[np.ndarray]:
    """Run a batch padded to `size` images with its last one, and drop the outputs of the padding."""
    count = len(next(iter(feed.values())))
    padded = {
        name: np.concatenate([value, np.repeat(value[-1:], size - count, axis=0)])
        for name, value in feed.items()
    }
    outputs = run(padded)
    if outputs[0].ndim == 2:  # detections [M, 6] and the number of each image
        counts = outputs[1].reshape(-1)[:count]
        return [outputs[0][: counts.sum()], counts]
    return [output[:count] for output in outputs]
