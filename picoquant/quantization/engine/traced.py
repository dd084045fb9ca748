"""A network's forward and its gradients as one static graph: for training, where each call of a graph costs.

Traced convolution by convolution, as dygraph runs them, S-NPU spends a tenth of a second of each step on entering and
leaving its 122 graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from typing import Any

import paddle
from paddle import nn
from paddle.base import core

from picoquant.paddle_program.graph import Graph
from picoquant.quantization.engine.feeds import cuts
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.tracing import channels_last
from picoquant.quantization.engine.tracing.gradients import Rounding
from picoquant.training.fast import traced
from picoquant.training.graphs.traced_graph import TracedGraph
from picoquant.utils.paddle_version.differences import paddle_3

# What else `engine/operators.py` knows looks at values or shapes while it runs, which a graph does not have when it is
# traced, or is in no detector.
_TRACEABLE = {
    "conv2d", "depthwise_conv2d", "conv2d_transpose", "batch_norm", "relu", "relu6", "leaky_relu", "swish", "silu",
    "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "clip", "elementwise_add", "elementwise_sub", "elementwise_mul",
    "elementwise_div", "pool2d", "nearest_interp", "nearest_interp_v2", "bilinear_interp", "bilinear_interp_v2",
    "concat", "split", "reshape", "reshape2", "transpose", "transpose2", "flatten_contiguous_range", "squeeze2",
    "unsqueeze2", "scale", "softmax", "channel_shuffle", "shuffle_channel",
}  # fmt: skip
Stores = Sequence[MutableMapping[str, Any]]
_PARTS = 4  # of images, at most, see `gradients_in_parts`; more saved no memory at 8 images


@dataclass(frozen=True)
class _Key:
    """What a graph is made for.

    Attributes:
        outputs: names of the tensors that it gives.
        following: whether ranges and statistics follow the batch.
        channels_last: whether maps are handed over so.
        parts: what its numbers of images can be divided by.
    """

    outputs: tuple[str, ...]
    following: bool
    channels_last: bool
    parts: int


def traceable(graph: Graph) -> bool:
    """Whether all of a network can be one static graph."""
    return all(op.op_type in _TRACEABLE for op in graph.operators)


class TracedForward:
    """Computes tensors of a network, with gradients, as `FakeQuantNetwork.forward` does.

    Args:
        network: all of it `traceable`.
        stores: where its quantisers keep their tensors, by name.
    """

    def __init__(self, network: FakeQuantNetwork, stores: Stores) -> None:
        self._network, self._stores = network, (network.stored, *stores)
        self._key: _Key | None = None
        self._graph: TracedGraph | None = None

    def __call__(self, feed: Mapping[str, Any], outputs: Sequence[str], following: bool) -> list[Any]:
        """See `FakeQuantNetwork.forward`."""
        return self.graph(feed, outputs, following)(self.images(feed), self.tensors())

    def images(self, feed: Mapping[str, Any]) -> list[Any]:
        """What the graph takes first: the network's inputs."""
        return [feed[name] for name in self._network.graph.inputs]

    def tensors(self) -> list[Any]:
        """What the graph takes then: everything stored that is float, weights that are trained among them."""
        return [store[name] for store, name in _floats(self._stores)]

    def graph(
        self, feed: Mapping[str, Any], outputs: Sequence[str], following: bool, sizes: Sequence[int] = ()
    ) -> TracedGraph:
        """What a call runs, made where it is not there.

        Args:
            feed, outputs, following: of the call.
            sizes: numbers of images that it is to take; none: that of `feed`.
        """
        key = self._key_of(outputs, following, sizes or [len(self.images(feed)[0])])
        if self._graph is None or self._key != key:
            self._graph, self._key = None, key
            core.clear_executor_cache()  # what oneDNN keeps for the graph before
            self._graph = self._trace(key, self.images(feed), self.tensors())
        return self._graph

    def traces(self, outputs: Sequence[str], following: bool, sizes: Sequence[int]) -> bool:
        """Whether a call makes a graph, which also what follows it, the gradients, then runs for the first time.

        Args:
            outputs, following, sizes: see `graph`.
        """
        return self._key != self._key_of(outputs, following, sizes)

    def _key_of(self, outputs: Sequence[str], following: bool, sizes: Sequence[int]) -> _Key:
        before = _PARTS if self._key is None else self._key.parts  # with all calls in it, few graphs are made
        return _Key(
            tuple(outputs), following, channels_last.available(), 1 if paddle_3() else gcd(before, *sizes)
        )

    def _trace(self, key: _Key, images: list[Any], tensors: list[Any]) -> TracedGraph:
        sizes = [[None, *image.shape[1:]] for image in images], [one.shape for one in tensors]
        forward = _Forward(self._network, self._stores, key)
        graph = traced(forward.run, (images, tensors), sizes, Rounding(key.parts))
        if key.channels_last:
            graph = graph.followed_by(channels_last.plain_again)
        if paddle_3():  # which frees nothing before the end of the first run
            few = next(cuts(self._network.graph, len(images[0]), 1))
            first = graph([image[few] for image in images], [_copy(one) for one in tensors])
            sum(one.sum() for one in first).backward()
        return graph


def _copy(tensor: Any) -> Any:
    found = tensor.detach().clone()
    found.stop_gradient = tensor.stop_gradient
    return found


class _Forward(nn.Layer):
    """The forward with every tensor as an argument."""

    def __init__(self, network: FakeQuantNetwork, stores: Stores, key: _Key) -> None:
        super().__init__()
        self._parts = (network, stores)  # in a tuple: the network's parameters are not this layer's
        self._outputs, self._following = key.outputs, key.following

    def run(self, images: list[Any], tensors: list[Any]) -> list[Any]:
        network, stores = self._parts
        with _replaced(stores, tensors):
            feed = dict(zip(network.graph.inputs, images))
            # The scale by 1 gives back the plain layout: what a traced graph returns is not converted.
            return [paddle.scale(one) for one in network(feed, self._outputs, self._following)]


def _floats(stores: Stores) -> Iterator[tuple[MutableMapping[str, Any], str]]:
    """Where float tensors are; the others are sizes and axes, which are read while the graph is traced."""
    for store in stores:
        for name, value in store.items():
            if value.dtype == paddle.float32:
                yield store, name


@contextmanager
def _replaced(stores: Stores, tensors: Sequence[Any]) -> Iterator[None]:
    """Within the block the graph's variables stand for the tensors."""
    places = list(_floats(stores))
    before = [store[name] for store, name in places]
    try:
        for (store, name), tensor in zip(places, tensors):
            store[name] = tensor
        yield
    finally:
        for (store, name), tensor in zip(places, before):
            store[name] = tensor
