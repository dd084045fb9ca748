"""How long a network takes for a batch, with nothing else at work in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Latency:
    """Times of one batch in milliseconds.

    Attributes:
        first_ms: the very first call, which plans and allocates; in none of the others.
        median_ms, p90_ms, p99_ms: of the counted calls.
        calls: how many were counted.
        batch: images of a call.
        images_per_second: over all counted calls.
    """

    first_ms: float
    median_ms: float
    p90_ms: float
    p99_ms: float
    calls: int
    batch: int
    images_per_second: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def call_seconds(predict: Any, feed: Mapping[str, np.ndarray]) -> float:
    """Seconds of one call; of the network alone where the runtime tells (Paddle Lite, in its own process)."""
    began = time.perf_counter()
    predict(feed)
    seconds = time.perf_counter() - began
    return getattr(predict, "network_seconds", seconds)


def measure(
    predict: Any, feeds: Sequence[Mapping[str, np.ndarray]], repeats: int = 1, warm_up: int = 2
) -> Latency:
    """Time a network.

    Args:
        predict: `predict(feed)` -> outputs.
        feeds: batches of one size, at least one.
        repeats: how often each is given.
        warm_up: calls after the first that are not counted.
    """
    first = call_seconds(predict, feeds[0])
    for number in range(warm_up):
        call_seconds(predict, feeds[number % len(feeds)])
    taken = np.array([call_seconds(predict, feed) for _ in range(repeats) for feed in feeds]) * 1e3
    median, p90, p99 = (float(value) for value in np.percentile(taken, [50, 90, 99]))
    batch = len(next(iter(feeds[0].values())))
    speed = 1e3 * batch * len(taken) / float(taken.sum()) if taken.sum() else 0.0
    return Latency(first * 1e3, median, p90, p99, len(taken), batch, speed)
