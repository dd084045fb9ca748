"""Batches of any size through a model that takes a fixed number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

import numpy as np

from picoquant.errors import WeightsError

_LARGEST = 256  # images in one batch of a model; more is a damaged number, and would take gigabytes

Run = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


def in_batches(run: Run, feed: Mapping[str, np.ndarray], size: int) -> list[np.ndarray]:
    """Run a batch in parts of `size` images, the last one filled up; -1: a model that takes any number.

    Raises: `WeightsError` for a size that no model has.
    """
    count = len(next(iter(feed.values())))
    if size in (-1, count):
        return list(run(feed))
    if not 1 <= size <= _LARGEST:
        raise WeightsError(f"the model takes {size} images at a time, not 1 to {_LARGEST}: export it again")
    parts = []
    for start in range(0, count, size):
        part = {name: value[start : start + size] for name, value in feed.items()}
        parts.append(_filled(run, part, size))
    return [np.concatenate(values) for values in zip(*parts)]


def _filled(run: Run, feed: Mapping[str, np.ndarray], size: int) -> list[np.ndarray]:
    """Run a batch filled up to `size` images, and drop what belongs to the filling."""
    count = len(next(iter(feed.values())))
    filled = {
        name: np.concatenate([value, np.repeat(value[-1:], size - count, axis=0)])
        for name, value in feed.items()
    }
    outputs = run(filled)
    if outputs[0].ndim == 2:  # detections [M, 6] and how many each image has
        counts = outputs[1].reshape(-1)[:count]
        return [outputs[0][: counts.sum()], counts]
    return [output[:count] for output in outputs]
