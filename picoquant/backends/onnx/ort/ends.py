"""Clips of bytes that nothing reaches, taken out round hard-swishes on integers.

A tensor of both signs has 255 of uint8's integers, 1 to 255; a Clip keeps the other, 0, away. A hard-swish is a
product `x * gate(x)`, so what it gives for each of `x`'s integers is known, channel by channel: its least is far above
the lower end where the tensor is scaled for the largest, and `x` itself may have 0 where 0 and 1 both close the gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from picoquant.backends.onnx.graph import Graph, Node, attribute

_NEAR = 0.4  # of a step: what surely is rounded to the integer


def drop_unreached_clips(graph: Graph) -> list[str]:
    """Take Clips out whose absence changes no integer behind a hard-swish.

    Args:
        graph: with quantised tensors and weights.

    Returns: names of the tensors that have none any more.
    """
    dropped = []
    for product in [node for node in graph.nodes if node.op_type == "Mul"]:
        for names in (product.input, product.input[::-1]):
            swish = _swish(graph, product, *names)
            if swish is None:
                continue
            for clip in (swish.unreached(), swish.closed()):
                if clip is not None:
                    maker = graph.producer(clip.input[0])
                    maker.output[0] = maker.name = clip.output[0]
                    graph.remove(clip)
                    dropped.append(clip.output[0])
            break
    return dropped


@dataclass(frozen=True)
class _Rounded:
    """A tensor in uint8: the scale with which it is made, that with which it is read, the integer for 0, its Clip."""

    scale: float
    read: float
    zero: int
    clip: Node | None

    def integers(self, graph: Graph) -> np.ndarray:
        """Those that it may have, `[n]`."""
        low, high = (
            (0, 255) if self.clip is None else (int(graph.constants[name]) for name in self.clip.input[1:3])
        )
        return np.arange(low, high + 1)


@dataclass(frozen=True)
class _Swish:
    """`result = x * gate(x)`; `slopes` and `offsets` of the gate, `[C]` or `[1]`: `slope * x + offset`, in values."""

    graph: Graph
    x: _Rounded
    gate: _Rounded
    result: _Rounded
    slopes: np.ndarray
    offsets: np.ndarray

    def _gates(self, integers: np.ndarray) -> np.ndarray:
        """Steps of the gate from its 0, not rounded, `[C, n]`, within its ends."""
        values = (integers - self.x.zero) * self.x.read
        steps = (self.slopes[:, None] * values + self.offsets[:, None]) / self.gate.scale
        possible = self.gate.integers(self.graph) - self.gate.zero
        return np.clip(steps, possible[0], possible[-1])

    def unreached(self) -> Node | None:
        """The result's Clip, where no integer of `x` leads beyond its ends."""
        clip, possible = self.result.clip, self.result.integers(self.graph)
        if clip is None or possible[-1] != 255:
            return None
        integers = np.arange(256)
        gates = self._gates(integers) + 0.5  # rounded up at most: the largest product below 0
        products = (integers - self.x.zero) * self.x.read * np.maximum(gates, 0) * self.gate.read
        least = products.min() / self.result.scale + self.result.zero
        return clip if least > possible[0] - _NEAR else None

    def closed(self) -> Node | None:
        """The Clip of `x`, where what it keeps away closes the gate, as its lower end does."""
        clip, possible = self.x.clip, self.x.integers(self.graph)
        if clip is None or possible[-1] != 255 or self.gate.integers(self.graph)[0] != self.gate.zero:
            return None
        return clip if (self._gates(np.arange(possible[0] + 1)) < _NEAR).all() else None


def _swish(graph: Graph, product: Node, x: str, gate: str) -> _Swish | None:
    """A product as a hard-swish of `x`; None where it is none, or something else takes `x` or the gate."""
    of_x, of_gate, result = _read(graph, x), _read(graph, gate), _made(graph, product)
    if of_x is None or of_gate is None or result is None or x in graph.outputs or gate in graph.outputs:
        return None
    back = graph.producer(gate)
    maker = graph.producer(back.input[0])
    if maker.op_type == "Clip":
        maker = graph.producer(maker.input[0])
    maker = graph.producer(maker.input[0])
    users = graph.users(x)
    alone = (
        len(graph.users(gate))
        == len(graph.users(back.input[0]))
        == len(graph.users(graph.producer(x).input[0]))
        == 1
    )
    if maker is None or x not in maker.input or not alone or len(users) != 2 or maker not in users:
        return None
    line = _line(graph, maker, x)
    return None if line is None else _Swish(graph, of_x, of_gate, result, *line)


def _line(graph: Graph, node: Node, x: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Slopes and offsets of a sum with one number, or of a convolution of each channel by itself at one position."""
    stored = [_constant(graph, name) for name in node.input if name != x]
    if any(value is None for value in stored):
        return None
    if node.op_type == "Add" and len(stored) == 1 and stored[0].size == 1:
        return np.ones(1), stored[0].reshape(1)
    if node.op_type != "Conv" or len(stored) != 2 or stored[0].shape[1:] != (1, 1, 1):
        return None
    channels = stored[0].shape[0]
    plain = attribute(node, "group", 1) == channels and not any(attribute(node, "pads", [0]))
    return (stored[0].reshape(-1), stored[1].reshape(-1)) if plain else None


def _constant(graph: Graph, name: str) -> np.ndarray | None:
    """The values of what a DequantizeLinear scales back from a constant."""
    back = graph.producer(name)
    if back is None or back.op_type != "DequantizeLinear" or back.input[0] not in graph.constants:
        return None
    integers, scale, *zero = (graph.constants[one].astype(np.float64) for one in back.input)
    across = (-1, *[1] * (integers.ndim - 1)) if scale.ndim else ()
    return (integers - (zero[0].reshape(across) if zero else 0)) * scale.reshape(across)


def _read(graph: Graph, name: str) -> _Rounded | None:
    """How a tensor is held that a DequantizeLinear gives."""
    back = graph.producer(name)
    maker = graph.producer(back.input[0]) if back is not None and back.op_type == "DequantizeLinear" else None
    clip = maker if maker is not None and maker.op_type == "Clip" else None
    quantise = graph.producer(clip.input[0]) if clip is not None else maker
    if quantise is None or quantise.op_type != "QuantizeLinear":
        return None
    scale, read, zero = (
        graph.constants[one] for one in (quantise.input[1], back.input[1], quantise.input[2])
    )
    whole = scale.size == read.size == 1 and zero.dtype == np.uint8
    return _Rounded(float(scale), float(read), int(zero), clip) if whole else None


def _made(graph: Graph, node: Node) -> _Rounded | None:
    """How a node's result is held, where a QuantizeLinear alone takes it."""
    users = graph.users(node.output[0])
    while len(users) == 1 and users[0].op_type in ("QuantizeLinear", "Clip"):
        users = graph.users(users[0].output[0])
    return _read(graph, users[0].output[0]) if users and users[0].op_type == "DequantizeLinear" else None
