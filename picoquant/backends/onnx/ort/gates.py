"""Hard-swishes whose gate is a Clip of bytes: no operator computes it, and nothing of it is rounded.

`hard_swish(x) = x * clip(x + 3, 0, 6) / 6`. Where 3 is `n` steps of `x`, whose 0 is the integer `z`, the gate is
`clip(q, z - n, z + n)` of `x`'s integers `q`, in steps a sixth as large with `z - n` as 0. ONNX Runtime's QLinearMul
multiplies both exactly and rounds once, as Paddle does. `int8/passes/gate_scales.py` chooses scales for it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np

from picoquant.backends.onnx.graph import Graph, Node, make_node
from picoquant.backends.onnx.inserter import store_scaling
from picoquant.int8.network import Int8Network
from picoquant.int8.passes.gate_scales import steps_of_gate

_SIX = 6.0
_NEAR = 0.4  # of a step: what surely is rounded to the integer
_ALL = np.arange(256)


def gates_of_bytes(graph: Graph, network: Int8Network) -> set[str]:
    """Results of the HardSwish nodes that `clip_gates` can write.

    Args:
        graph: not rounded yet.
        network: says the scales and zero points.
    """
    return {
        node.output[0]
        for node in graph.nodes
        if node.op_type == "HardSwish" and _ends_at_integers(network, node.input[0])
    }


def _ends_at_integers(network: Int8Network, name: str) -> bool:
    tensor = network.tensors.get(name)
    if tensor is None or tensor.params is None or tensor.non_negative:
        return False
    return steps_of_gate(float(tensor.params.scale), tensor.params.zero_point + 128) is not None


def clip_gates(graph: Graph, names: Container[str]) -> list[str]:
    """Write hard-swishes as a Clip of their input's bytes and a product, without the Clips that nothing reaches then.

    Args:
        graph: with quantised tensors and weights.
        names: of `gates_of_bytes`; of these, what reads or gives a tensor that is not rounded stays.

    Returns: names of the results.
    """
    done = []
    for node in [node for node in graph.nodes if node.op_type == "HardSwish"]:
        back, name = graph.producer(node.input[0]), node.output[0].removesuffix(".float")
        if name not in names or back is None or back.op_type != "DequantizeLinear":
            continue
        scale, zero = (graph.constants[one] for one in back.input[1:3])
        steps = steps_of_gate(float(scale), int(zero)) if zero.dtype == np.uint8 else None
        if steps is None:
            continue
        gate = _Gate(float(scale), int(zero), steps)
        _drop_clips(graph, node, back, gate)
        _write(graph, node, back, gate)
        done.append(name)
    return done


@dataclass(frozen=True)
class _Gate:
    """The gate of a tensor in uint8: the value of its steps, its 0, and the steps from there to the gate's ends."""

    scale: float
    zero: int
    steps: int

    @property
    def ends(self) -> tuple[int, int]:
        """The integers at which it is closed and open, within uint8."""
        return self.zero - self.steps, min(self.zero + self.steps, 255)

    def products(self, integers: np.ndarray) -> np.ndarray:
        """What the hard-swish gives for integers of the tensor, in values."""
        gates = np.clip(integers, *self.ends) - self.ends[0]
        return (integers - self.zero) * self.scale * gates * self.scale / _SIX


def _write(graph: Graph, node: Node, back: Node, gate: _Gate) -> None:
    result, held, new = node.output[0], back.input[0], []
    stem = f"{result}.gate"
    if gate.ends != (0, 255):
        limits = [f"{stem}.closed", f"{stem}.open"]
        graph.constants.update(zip(limits, map(np.uint8, gate.ends)))
        held = f"{stem}.uint8"
        new.append(make_node("Clip", [back.input[0], *limits], [held], held))
    reading = store_scaling(graph, stem, gate.scale / _SIX, np.uint8(gate.ends[0]))
    new.append(make_node("DequantizeLinear", [held, *reading], [stem], stem))
    new.append(make_node("Mul", [node.input[0], stem], [result], result))
    graph.insert_before(node, new)
    graph.remove(node)


def _drop_clips(graph: Graph, node: Node, back: Node, gate: _Gate) -> None:
    """Take out the Clips of a hard-swish's input and result whose absence changes no integer of the result."""
    quantise = _only_user(graph, node.output[0], "QuantizeLinear")
    if quantise is None:
        return
    scale, zero = float(graph.constants[quantise.input[1]]), int(graph.constants[quantise.input[2]])
    places = gate.products(_ALL) / scale + zero
    before = graph.producer(back.input[0])
    possible = _ALL
    if before is not None and before.op_type == "Clip":
        ends = _ends(graph, before)
        alone = len(graph.users(back.input[0])) == len(graph.users(node.input[0])) == 1
        inner = np.clip(_ALL, *ends)
        if alone and node.input[0] not in graph.outputs and np.array_equal(places[inner], places):
            _remove_clip(graph, before)
        else:
            possible = np.unique(inner)
    behind = _only_user(graph, quantise.output[0], "Clip")
    if behind is not None:
        low, high = _ends(graph, behind)
        least, most = places[possible].min(), places[possible].max()
        if (low == 0 or least > low - _NEAR) and (high == 255 or most < high + _NEAR):
            _remove_clip(graph, behind)


def _only_user(graph: Graph, name: str, kind: str) -> Node | None:
    users = graph.users(name)
    return users[0] if len(users) == 1 and users[0].op_type == kind else None


def _ends(graph: Graph, clip: Node) -> tuple[int, int]:
    low, high = (int(graph.constants[name]) for name in clip.input[1:3])
    return low, high


def _remove_clip(graph: Graph, clip: Node) -> None:
    """Take a Clip out; what it takes is called as its result was."""
    maker = graph.producer(clip.input[0])
    maker.output[0] = maker.name = clip.output[0]
    graph.remove(clip)
