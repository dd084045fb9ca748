"""Hard-swishes that quantisation wrote out with a factor for each channel, found again.

`y = x * relu6(f * x + 3)`, a depthwise 1x1 convolution with the factors `f` among its operators, is `6 / f` times the
hard-swish of `f * x`. A runtime that computes a hard-swish inside the convolution before it takes `f` into that
convolution's scales, whose integers stay, and multiplies what the hard-swish gives by `6 / f`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.int8.network import Int8Network
from picoquant.int8.passes.fold import scaled
from picoquant.int8.passes.tensors import quantised_tensors
from picoquant.paddle_program.graph import Graph, Operator, read_graph
from picoquant.paddle_program.layers import FusedLayer
from picoquant.paddle_program.message import add_operator

_OFFSET, _NEAR = 3.0, 0.02  # a rounded bias is so near to the offset
_SIX = 6.0
_HARD_SWISH = "hard_swish"
_SMALLEST = 1e-6  # of a factor


@dataclass(frozen=True, eq=False)
class Gate:
    """A written-out hard-swish.

    Attributes:
        result: name of `y`.
        factors: `f`, `[C]` float64.
        absorbed: names of its operators.
    """

    result: str
    factors: np.ndarray
    absorbed: tuple[str, ...]

    @property
    def behind(self) -> np.ndarray:
        """What the hard-swish is multiplied by, `[C]`."""
        return _SIX / self.factors


def find_gates(
    graph: Graph, values: Mapping[str, np.ndarray], layers: Mapping[str, FusedLayer]
) -> dict[str, Gate]:
    """The written-out hard-swishes behind convolutions, by the name of `x`.

    Args:
        graph, values: of a network.
        layers: its convolutions with what is fused into them.
    """
    found = {}
    for layer in layers.values():
        gate = _gate(graph, values, layers, layer)
        if gate is not None:
            found[layer.output] = gate
    return found


def _gate(
    graph: Graph, values: Mapping[str, np.ndarray], layers: Mapping[str, FusedLayer], layer: FusedLayer
) -> Gate | None:
    name, users = layer.output, graph.users(layer.output)
    if layer.activation is not None or len(users) != 2 or name in graph.outputs:
        return None
    products = [op for op in users if op.op_type == "elementwise_mul"]
    inner = [layers[op.name] for op in users if op.name in layers and op.input("Input0") == name]
    if len(products) != 1 or len(inner) != 1 or not _is_clipped(graph, values, inner[0]):
        return None
    gate, product = inner[0], products[0]
    if {product.input("X0"), product.input("Y0")} != {name, gate.output} or gate.output in graph.outputs:
        return None
    if len(graph.users(gate.output)) != 1:
        return None
    factors = np.asarray(values[_weight(gate.conv)], np.float64).ravel()
    absorbed = (gate.conv.name, *(op.name for op in gate.fused), product.name)
    return Gate(product.name, factors, absorbed) if (factors > _SMALLEST).all() else None


def _is_clipped(graph: Graph, values: Mapping[str, np.ndarray], gate: FusedLayer) -> bool:
    """Whether a layer is `relu6(f * x + 3)`, `f` one number a channel."""
    weight, last = values.get(_weight(gate.conv)), gate.activation
    if weight is None or gate.bias is None or last is None or last.op_type != "relu6":
        return False
    channels = weight.shape[0]
    single = weight.shape == (channels, 1, 1, 1) and gate.conv.attributes.get("groups") == channels
    plain = (
        not any(gate.conv.attributes["paddings"])
        and max(gate.conv.attributes["strides"]) == 1
        and channels > 1
    )
    six = abs(last.attributes.get("threshold", _SIX) - _SIX) < 1e-6
    return single and plain and six and bool(np.allclose(values[gate.bias], _OFFSET, rtol=0, atol=_NEAR))


def _weight(op: Operator) -> str:
    return op.input("Filter0") or ""


def join_hard_swishes(network: Int8Network) -> tuple[Int8Network, dict[str, np.ndarray]]:
    """The network with one hard-swish for each written-out one, computed of unrounded values, as Paddle computes them.

    Args:
        network: stays as it is.

    Returns: the network, in which the results of these hard-swishes are to be multiplied, and their factors, `[C]`, by
        the results' names. What a hard-swish alone reads has no range there: it is never rounded.
    """
    gates = {
        name: gate
        for name, gate in find_gates(network.graph, network.values, network.layers).items()
        if _own_weights(network, name)
    }
    program = _with_hard_swishes(network.program, gates)
    gone = {name for gate in gates.values() for name in gate.absorbed}
    values, operators, ranges = dict(network.values), [], dict(network.ranges)
    for operator in network.operators:
        if operator.output in gone:
            continue
        gate = (
            gates.get(network.layers[operator.output].output) if operator.output in network.layers else None
        )
        if gate is not None:
            operator = scaled(operator, gate.factors)
            values[operator.weight] = operator.value
            if operator.bias is not None:
                values[operator.bias] = (values[operator.bias] * gate.factors).astype(np.float32)
        operators.append(operator)
    graph = read_graph(program)
    for op in graph.operators:
        source = op.input("X0") or ""
        if op.op_type == _HARD_SWISH and len(graph.users(source)) == 1 and source not in graph.inputs:
            ranges.pop(source, None)
    tensors = quantised_tensors(graph, values, operators, ranges, zero_points=network.zero_points)
    joined = Int8Network(program, tensors, tuple(operators), values, network.ignored)
    return joined, {gate.result: gate.behind for gate in gates.values()}


def _own_weights(network: Int8Network, name: str) -> bool:
    """Whether the convolution with a result is in INT8 and alone has its weight and its bias."""
    layer = next(layer for layer in network.layers.values() if layer.output == name)
    stored = [_weight(layer.conv), *([layer.bias] if layer.bias else [])]
    return layer.conv.name in network.by_output and all(len(network.graph.users(one)) == 1 for one in stored)


def _with_hard_swishes(program: Any, gates: Mapping[str, Gate]) -> Any:
    copy = type(program).FromString(program.SerializeToString())
    block, sources = copy.blocks[0], {gate.result: name for name, gate in gates.items()}
    gone, kept = {name for gate in gates.values() for name in gate.absorbed}, []
    for op in block.ops:
        results = {name for slot in op.outputs for name in slot.arguments}
        for result in results & sources.keys():
            values = {"threshold": _SIX, "scale": _SIX, "offset": _OFFSET}
            kept.append(add_operator(copy, _HARD_SWISH, {"X": [sources[result]]}, {"Out": [result]}, values))
        if not results & gone:
            kept.append(type(op).FromString(op.SerializeToString()))
    del block.ops[:]
    block.ops.extend(kept)
    return copy
