"""Parts of a batch run at once, forward and back, each in one thread.

Rounding, sums of gradients and most of what a step computes beside its convolutions run in one thread in Paddle, so
that a second processor makes a step of a whole batch hardly faster; two halves of it, each in a thread of its own, take
little more than half as long. What comes out does not depend on how many are run at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle.base.framework import _dygraph_guard, _dygraph_tracer

from picoquant.quantization.engine.openmp import use_threads
from picoquant.quantization.engine.primitives.forward import OnPrimitives, PrimitiveForward
from picoquant.quantization.engine.traced import TracedForward
from picoquant.training.graphs.traced_graph import TracedGraph
from picoquant.utils.device import available_cpus

_IMAGES = 4  # of a part. S-NPU at 320 px: a batch of 8 takes 0.66 s of CPU, 0.74 in parts of 4, 0.86 of 2, 1.25 of 1

# The loss of a part, of the tensors of teacher and student by name.
Loss = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
_Found = tuple[float, list[Any]]  # a part's loss, and the gradients of what is trained


def images_of_a_part(images: int, fitting: int) -> int:
    """Of a batch of so many images, at most; the parts are an even number where there are several, of like size.

    Args:
        images: of the batch.
        fitting: how many memory is meant for, all parts together.
    """
    if images <= min(_IMAGES, fitting):
        return images
    most = max(1, min(_IMAGES, fitting // 2))
    count = 2 * -(-images // (2 * most))
    return -(-images // count)


@dataclass(frozen=True)
class Part:
    """Some images of a batch.

    Attributes:
        feed: by input name.
        expected: the teacher's tensors, by name.
        share: of the batch.
    """

    feed: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    share: float


class AtOnce:
    """Computes the gradients of the parts of a batch.

    Args:
        forward: of the student, in which nothing depends on which images are run together.
        names: of the tensors that the loss takes.
        loss: of a part.
        fitting: how many images memory is meant for.
    """

    def __init__(
        self, forward: TracedForward | PrimitiveForward, names: Sequence[str], loss: Loss, fitting: int
    ) -> None:
        self._forward, self._names, self._loss, self._fitting = forward, names, loss, fitting
        self._workers: list[_Worker] = []

    def __call__(self, parts: Sequence[Part], following: bool) -> float:
        """Add the gradients of all parts, in their order, to those of the student's tensors; the loss is returned.

        Args:
            parts: some.
            following: see `FakeQuantNetwork.forward`.
        """
        sizes = [len(next(iter(part.feed.values()))) for part in parts]
        graph = self._forward.graph(_tensors(parts[0].feed), self._names, following, sizes)
        workers, stored = self._open(parts), self._forward.tensors()
        with (
            paddle.utils.unique_name.guard()
        ):  # Paddle's layers change the names' generator while they are called
            waiting = [
                workers[number % len(workers)].start(graph, self._of_part, part, list(map(_alias, stored)))
                for number, part in enumerate(parts)
            ]
            found = [one.result() for one in waiting]
        trained = [one for one in stored if not one.stop_gradient]
        with paddle.no_grad():
            for _, gradients in found:
                for tensor, gradient in zip(trained, gradients):
                    if gradient is not None:
                        tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        return sum(loss for loss, _ in found)

    def _open(self, parts: Sequence[Part]) -> list[_Worker]:
        """As many threads as there are processors and memory for; they divide the processors among them."""
        images = len(next(iter(parts[0].feed.values())))
        count = min(len(parts), available_cpus(), max(1, self._fitting // images))
        if len(self._workers) != count:
            opening = threading.Lock()
            self._workers = [_Worker(available_cpus() // count, opening) for _ in range(count)]
        return self._workers

    def _of_part(self, graph: TracedGraph | OnPrimitives, part: Part, tensors: list[Any]) -> _Found:
        found = graph(self._forward.images(_tensors(part.feed)), tensors)
        loss = self._loss(_tensors(part.expected), dict(zip(self._names, found))) * part.share
        loss.backward()
        return loss.item(), [one.grad for one in tensors if not one.stop_gradient]


class _Worker:
    """A thread with a graph of its own.

    Args:
        threads: of OpenMP, that its operators run in.
        opening: held while a graph runs for the first time: Paddle keeps what it prepares in one place.
    """

    def __init__(self, threads: int, opening: threading.Lock) -> None:
        self._pool = ThreadPoolExecutor(1, "part", use_threads, (threads,))
        self._opening = opening
        self._made: tuple[Any, Any] | None = None  # a graph and its twin

    def start(
        self, graph: TracedGraph | OnPrimitives, work: Callable[..., _Found], *arguments: Any
    ) -> Future[_Found]:
        """Call `work` with a graph that is this thread's, and arguments."""
        return self._pool.submit(self._run, _dygraph_tracer(), graph, work, arguments)

    def _run(
        self,
        tracer: Any,
        graph: TracedGraph | OnPrimitives,
        work: Callable[..., _Found],
        arguments: tuple[Any, ...],
    ) -> _Found:
        with _dygraph_guard(tracer):  # a new thread is in Paddle's static mode
            if self._made is not None and self._made[0] is graph:
                return work(self._made[1], *arguments)
            with self._opening:
                self._made = graph, graph.twin()
                return work(self._made[1], *arguments)


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: paddle.to_tensor(value) for name, value in arrays.items()}


def _alias(tensor: Any) -> Any:
    """A tensor's values, in its memory, with a gradient of their own."""
    found = tensor.detach()
    found.stop_gradient = tensor.stop_gradient
    return found
