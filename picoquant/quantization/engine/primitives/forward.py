"""A rounded network's forward and its gradients on tapes of oneDNN's primitives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import paddle

from picoquant.paddle_program.layers import BATCH_NORM
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.primitives.block import Block, behind_copies
from picoquant.quantization.engine.primitives.rounded import HeldRange, rounded
from picoquant.training.onednn.engine import part_of
from picoquant.training.onednn.graph import Graph, UnsupportedError, read
from picoquant.training.onednn.nodes import stored


class PrimitiveForward:
    """Computes tensors of a network, with gradients, as `FakeQuantNetwork.forward` does, where no range moves.

    Args:
        network: what is computed.
        ranges: of every tensor that it holds rounded.
        outputs: the tensors that calls ask for.

    Raises: `UnsupportedError` where something of the network is not known, or oneDNN is not there.
    """

    def __init__(
        self, network: FakeQuantNetwork, ranges: Mapping[str, HeldRange], outputs: Sequence[str]
    ) -> None:
        self._network, self._outputs = network, tuple(outputs)
        names = [behind_copies(network.graph, name) for name in outputs]
        if len(set(names)) < len(names):
            raise UnsupportedError("an output twice")
        block = Block(network.graph, names)
        if any(one.type == BATCH_NORM for one in block.ops):
            raise UnsupportedError("a batch-norm, which training changes")
        self._graph = read(block, network.graph.inputs, names)
        made = {name for one in block.ops for name in one.output_arg_names}
        self._ranges = {name: one for name, one in ranges.items() if name in network.held and name in made}
        needed = {name for one in block.ops for name in one.input_arg_names}
        for name in sorted(network.read_rounded & needed):
            raise UnsupportedError(f"{name}, which is rounded where it is read")
        read_names = {name for node in self._graph.nodes for name in stored(node)}
        self._names = [name for name in network.stored if name in read_names]
        self._made = self._levels(), self._make()

    def __call__(self, feed: Mapping[str, Any], outputs: Sequence[str], following: bool) -> list[Any]:
        """See `FakeQuantNetwork.forward`."""
        return self.graph(feed, outputs, following)(self.images(feed), self.tensors())

    def images(self, feed: Mapping[str, Any]) -> list[Any]:
        """What the graph takes first: the network's inputs."""
        return [feed[name] for name in self._network.graph.inputs]

    def tensors(self) -> list[Any]:
        """What the graph takes then: everything stored that it reads."""
        return [self._network.stored[name] for name in self._names]

    def graph(
        self, feed: Mapping[str, Any], outputs: Sequence[str], following: bool, sizes: Sequence[int] = ()
    ) -> OnPrimitives:
        """What a call runs; for the arguments see `TracedForward.graph`.

        It is another where a range has changed, which happens when a state is restored.
        """
        if tuple(outputs) != self._outputs:
            raise ValueError(f"made for {self._outputs}, asked for {tuple(outputs)}")
        levels = self._levels()
        if self._made[0] != levels:
            self._made = levels, self._make()
        return self._made[1]

    def _levels(self) -> list[Any]:
        return [one.levels() for one in self._ranges.values()]

    def _make(self) -> OnPrimitives:
        levels = {name: one.levels() for name, one in self._ranges.items()}
        return OnPrimitives(self._network, rounded(self._graph, levels), self._names)


class OnPrimitives:
    """A graph with memory of its own.

    Args:
        network: rounds weights and inputs.
        graph: what is computed.
        names: of the stored tensors, in the order in which they are given.
    """

    def __init__(self, network: FakeQuantNetwork, graph: Graph, names: Sequence[str]) -> None:
        self._network, self._graph, self._names = network, graph, names
        weights = network.rounded_weights()
        self._axes = {name: weights[name] for name in names if name in weights}
        self._stored = {name: network.stored[name] for name in names}
        self._rounded: dict[str, Any] = {}
        self._part = part_of(graph, self._stored, read=self._rounded)

    def twin(self) -> OnPrimitives:
        """The same graph with other memory, which may run at the same time."""
        return OnPrimitives(self._network, self._graph, self._names)

    def __call__(self, images: Sequence[Any], tensors: Sequence[Any]) -> list[Any]:
        """The outputs of images, with gradients.

        Args:
            images: by input.
            tensors: what is stored, in the order of `names`.
        """
        self._stored.update(zip(self._names, tensors))
        held = self._network.held
        with paddle.no_grad():
            for name, axis in self._axes.items():
                self._rounded[name] = self._network.rounded_weight(self._stored[name], axis)
            images = [
                held[name](image, False) if name in held else image
                for name, image in zip(self._graph.inputs, images)
            ]
        return self._part(images)
