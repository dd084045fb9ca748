"""Channels added until there are a multiple of 16, all zero, where ONNX Runtime's integer kernels want that.

ONNX Runtime (MLAS, 1.31) takes 16 channels at a time in an integer depthwise convolution and the rest one by one: 11
channels take three times as long as 16, 24 twice as long as 32. Tensors that depthwise convolutions and operators on
single values tie together get the same channels; the convolutions before them give zeros there, and those behind them
have zeros for them as weights, so that every result stays the same, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from onnx import helper

from picoquant.backends.onnx.graph import Graph, Node, attribute

MULTIPLE = 16
WORTH = 2**19  # bytes of a copy of a convolution's input for each kernel position, see `kernels.py`
_ONE_BY_ONE = (
    "QuantizeLinear",
    "DequantizeLinear",
    "Clip",
    "Relu",
    "HardSigmoid",
    "Sigmoid",
    "Add",
    "Mul",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
)  # each channel of their result is of that channel of their inputs


@dataclass
class _Tied:
    """Tensors that have the same channels.

    Attributes:
        names: of the tensors.
        before, behind: dense convolutions that make one, that take one.
        depthwise: convolutions of each channel by itself.
    """

    names: list[str] = field(default_factory=list)
    before: list[Node] = field(default_factory=list)
    behind: list[Node] = field(default_factory=list)
    depthwise: list[Node] = field(default_factory=list)


def fill_channels(graph: Graph) -> list[str]:
    """Give tensors of depthwise convolutions, and results of large windows, a multiple of 16 channels.

    Args:
        graph: with quantised tensors and weights; its `shapes` follow.

    Returns: names of the convolutions that give more channels now.
    """
    filled = []
    convolutions = _Convolutions(graph)
    for tied in convolutions.tied():
        channels = convolutions.channels(tied)
        more = -channels % MULTIPLE
        large = channels < MULTIPLE and any(convolutions.copied(conv) >= WORTH for conv in tied.before)
        if not more or not (tied.depthwise or large):
            continue
        for conv in tied.behind:
            pad_stored(graph, conv.input[1], 1, more)
        for conv in (*tied.before, *tied.depthwise):
            for stored in conv.input[1:3]:
                pad_stored(graph, stored, 0, more)
        for conv in tied.depthwise:
            kept = [item for item in conv.attribute if item.name != "group"]
            conv.attribute = [*kept, helper.make_attribute("group", channels + more)]
        for name in graph.shapes.keys() & set(tied.names):
            graph.shapes[name] = [graph.shapes[name][0], channels + more, *graph.shapes[name][2:]]
        filled.extend(conv.name for conv in (*tied.before, *tied.depthwise))
    return filled


def pad_stored(graph: Graph, name: str, axis: int, more: int) -> None:
    """Add zeros to what a DequantizeLinear scales back; added channels have the scale of the last."""
    back = graph.producer(name)
    for position, stored in enumerate(back.input):
        value = graph.constants[stored]
        if position and (axis != attribute(back, "axis", 1) or value.ndim == 0):
            continue
        along = axis if position == 0 else 0
        width = [(0, more if place == along else 0) for place in range(value.ndim)]
        graph.constants[stored] = np.pad(value, width, mode="constant" if position == 0 else "edge")


class _Convolutions:
    """The convolutions of a graph, and which tensors they tie together."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._stored = {
            node.output[0]: node.input[0]
            for node in graph.nodes
            if node.op_type == "DequantizeLinear" and node.input[0] in graph.constants
        }
        self._uses: dict[str, int] = {}
        for name in (name for node in graph.nodes for name in node.input):
            self._uses[name] = self._uses.get(name, 0) + 1
        self._roots: dict[str, str] = {}

    def tied(self) -> Iterable[_Tied]:
        """All groups of tensors with the same channels, but for those whose channels cannot be changed."""
        graph, fixed = self._graph, {*self._graph.inputs, *self._graph.outputs}
        for node in graph.nodes:
            computed = [name for name in node.input if name and self._constant(name) is None]
            kind = self._kind(node)
            if node.output[0] in self._stored:
                continue
            if kind in ("depthwise", "one by one"):
                for name in computed:
                    self._roots[self._root(name)] = self._root(node.output[0])
            if kind == "other" or (kind == "one by one" and self._takes_a_value_a_channel(node)):
                fixed.update(computed, node.output)
        groups: dict[str, _Tied] = {}
        for node in graph.nodes:
            kind = self._kind(node)
            if node.output[0] in self._stored:
                continue
            if kind == "dense":
                groups.setdefault(self._root(node.input[0]), _Tied()).behind.append(node)
                groups.setdefault(self._root(node.output[0]), _Tied()).before.append(node)
            elif kind == "depthwise":
                groups.setdefault(self._root(node.output[0]), _Tied()).depthwise.append(node)
        for name in list(self._roots):
            groups.setdefault(self._root(name), _Tied()).names.append(name)
        unchanged = {self._root(name) for name in fixed}
        return [tied for root, tied in groups.items() if root not in unchanged]

    def channels(self, tied: _Tied) -> int:
        """How many channels tensors have; 0 where their convolutions do not agree: something is repeated for each."""
        counts = {self._weight(conv).shape[0] for conv in (*tied.before, *tied.depthwise)}
        counts |= {self._weight(conv).shape[1] for conv in tied.behind}
        return counts.pop() if len(counts) == 1 else 0

    def copied(self, conv: Node) -> int:
        """Bytes of a convolution's input, copied for each kernel position; 0 where there is one position."""
        shape = self._weight(conv).shape
        area = int(np.prod(self._graph.shapes.get(conv.output[0], [0, 0])[2:]))
        return int(np.prod(shape[1:])) * area if max(shape[2:]) > 1 else 0

    def _root(self, name: str) -> str:
        while self._roots.setdefault(name, name) != name:
            self._roots[name] = name = self._roots[self._roots[name]]
        return name

    def _kind(self, node: Node) -> str:
        """`dense`, `depthwise`: convolutions in INT8 with a bias, whose constants are their own; or what else."""
        if node.op_type in _ONE_BY_ONE:
            return "one by one"
        alone = len(node.input) == 3 and all(
            name in self._stored and self._uses[name] == self._uses[self._stored[name]] == 1
            for name in node.input[1:]
        )
        if node.op_type != "Conv" or not alone:
            return "other"
        groups, shape = attribute(node, "group", 1), self._weight(node).shape
        if groups == 1:
            return "dense"
        return "depthwise" if shape[0] == groups and shape[1] == 1 else "other"

    def _weight(self, conv: Node) -> np.ndarray:
        return self._graph.constants[self._stored[conv.input[1]]]

    def _constant(self, name: str) -> np.ndarray | None:
        return self._graph.constants.get(self._stored.get(name, name))

    def _takes_a_value_a_channel(self, node: Node) -> bool:
        constants = [self._constant(name) for name in node.input]
        return any(value is not None and value.size > 1 for value in constants)
