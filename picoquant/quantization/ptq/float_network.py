"""The float network of a quantisation, run on the calibration images: its tensors, and their gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import paddle

from picoquant.paddle_program.graph import Graph
from picoquant.quantization.calibration_images import (
    CalibrationImages,
    Feed,
    OfTurn,
    maker_of,
    require_finite,
    watch,
)
from picoquant.quantization.engine.arrays import as_array
from picoquant.quantization.engine.feeds import cuts, images_at_once, parts
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.whole_graph import WholeGraph, computed_of_images, run_each, whole
from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.quantization.ptq.state import PtqState

T = TypeVar("T")
_HELD = 4  # part of the memory that is meant for activations, where all that are measured are held at once
_IMAGES = 32  # gradients take several times as long as values, and what they show varies little


def calibration_values(
    state: PtqState, names: Sequence[str], title: str, world: int = 1
) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors of the network as it is now, of each batch of calibration images, one after the other.

    Args:
        state: its network is read.
        names: of the tensors.
        title: of the progress line.
        world: of the images' batches those number 0, `world` … are taken.

    Raises: `DataError` for a tensor that is not finite; `WeightsError` naming an operator that cannot be run.
    """
    network = _network(state)
    images = _images(state, world)

    def run(feed: Feed) -> Iterator[np.ndarray]:
        tensors = network.each({name: paddle.to_tensor(value) for name, value in feed.items()}, names)
        return map(as_array, tensors)

    shown = state.context.progress(title)
    cut = partial(parts, network.graph, most=images_at_once(network.graph))
    with paddle.no_grad():
        yield from watch(images, run, names, maker_of(state.model.graph()), shown, cut)


@dataclass(frozen=True)
class Part:
    """Some images of a calibration batch.

    Attributes:
        before: images of earlier batches.
        first: images of the batch before these.
        images: how many these are.
        total: images of the batch.
    """

    before: int
    first: int
    images: int
    total: int

    @property
    def is_last(self) -> bool:
        """Whether the batch ends with these."""
        return self.first + self.images == self.total


def calibration_parts(
    state: PtqState,
    names: Sequence[str],
    measure: Callable[[str, np.ndarray, Part], T],
    title: str,
    world: int = 1,
) -> Iterator[dict[str, T]]:
    """What is measured of tensors of the network as it is now, by name; of each part of the images, in their order.

    Args:
        state: its network is read.
        names: of the tensors.
        measure: given the name, the value and which images they are; called in several threads at once.
        title: of the progress line.
        world: of the images' batches those number 0, `world` … are taken.

    Raises: as `calibration_values`.
    """
    graph, images = state.model.graph(), _images(state, world)
    makers, shown = maker_of(graph), state.context.progress(title)

    def measured(part: Part, values: Mapping[str, np.ndarray]) -> tuple[Part, dict[str, T]]:
        found = {}
        for name in names:
            require_finite(images, name, values[name], makers, part.before + part.first, part.images)
            found[name] = measure(name, values[name], part)
        return part, found

    at_once = whole(graph) and len(computed_of_images(graph, names)) == len(names)
    done = 0
    for part, found in (_by_graph if at_once else _by_operators)(
        state, _parts(images, graph), names, measured
    ):
        done += part.is_last
        shown(done)
        yield found


_Measured = Callable[[Part, Mapping[str, np.ndarray]], T]
_Parts = Callable[[int], Iterator[tuple[Part, Feed]]]


def _by_graph(state: PtqState, parts_of: _Parts, names: Sequence[str], measured: _Measured[T]) -> Iterator[T]:
    """What is measured of single images, several at once."""
    computed = [name for name in names if name not in state.model.inputs]

    def work(known: tuple[Part, Feed], found: list[np.ndarray]) -> T:
        part, feed = known
        return measured(part, {**feed, **dict(zip(computed, found))})

    feeds = ((feed, (part, feed)) for part, feed in parts_of(1))
    yield from run_each(WholeGraph(state.model, computed), feeds, work)


def _by_operators(
    state: PtqState, parts_of: _Parts, names: Sequence[str], measured: _Measured[T]
) -> Iterator[T]:
    """What is measured of some images at a time, by the network in dygraph; measured in one thread."""
    network = _network(state)
    most = max(1, images_at_once(network.graph) // _HELD)
    with ThreadPoolExecutor(1) as pool, paddle.no_grad():
        for part, feed in parts_of(most):
            tensors = network({name: paddle.to_tensor(value) for name, value in feed.items()}, names)
            yield pool.submit(measured, part, dict(zip(names, map(as_array, tensors)))).result()


def _images(state: PtqState, world: int) -> CalibrationImages | OfTurn:
    """The batches number 0, `world` … of the calibration images."""
    return state.context.images if world == 1 else OfTurn(state.context.images, world)


def _parts(images: CalibrationImages | OfTurn, graph: Graph) -> _Parts:
    """A function that cuts batches into parts of at most so many images."""

    def parts_of(most: int) -> Iterator[tuple[Part, Feed]]:
        before = 0
        for batch in images:
            total = len(batch[graph.inputs[0]])
            for cut in cuts(graph, total, most):
                feed = {name: batch[name][cut] for name in graph.inputs}
                yield Part(before, cut.start, cut.stop - cut.start, total), feed
            before += total

    return parts_of


@contextlib.contextmanager
def differentiable(
    state: PtqState, title: str, at_once: int
) -> Iterator[tuple[FakeQuantNetwork, DetectionError, Iterator[Feed]]]:
    """The network as it is now, the error of its outputs, and images.

    Args:
        state: its network is read.
        title: of the progress line.
        at_once: images of a batch, at most; all its tensors are held, and their gradients.
    """
    network = _network(state)
    feeds = _some(network.graph, state, title, min(at_once, images_at_once(network.graph)))
    yield network, DetectionError(network, state.context.config), feeds


def _network(state: PtqState) -> FakeQuantNetwork:
    graph, values = state.model.graph(), state.model.values
    return FakeQuantNetwork(graph, values, (), {}, convolutions=state.context.convolutions)


def _some(graph: Graph, state: PtqState, title: str, at_once: int) -> Iterator[Feed]:
    shown = state.context.progress(title)
    left = _IMAGES
    for done, batch in enumerate(state.context.images, start=1):
        if left > 0:
            yield from parts(graph, {name: value[:left] for name, value in batch.items()}, most=at_once)
            left -= len(next(iter(batch.values())))
        shown(done)
