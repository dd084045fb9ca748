"""The float network of a quantisation, run on the calibration images: its tensors, and their gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import paddle

from picoquant.paddle_program.graph import Graph
from picoquant.quantization.calibration_images import Feed, OfTurn, maker_of, watch
from picoquant.quantization.engine.arrays import as_array
from picoquant.quantization.engine.feeds import images_at_once, parts
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.quantization.ptq.state import PtqState

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
    images = state.context.images if world == 1 else OfTurn(state.context.images, world)

    def run(feed: Feed) -> Iterator[np.ndarray]:
        tensors = network.each({name: paddle.to_tensor(value) for name, value in feed.items()}, names)
        return map(as_array, tensors)

    shown = state.context.progress(title)
    cut = partial(parts, network.graph, most=images_at_once(network.graph))
    with paddle.no_grad():
        yield from watch(images, run, names, maker_of(state.model.graph()), shown, cut)


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
