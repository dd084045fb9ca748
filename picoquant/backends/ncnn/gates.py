"""Hard-swishes that quantisation wrote out with a factor for each channel, found again.

`y = x * relu6(f * x + 3)`, a depthwise 1x1 convolution with the factors `f` among its operators, is `6 / f` times the
hard-swish of `f * x`. ncnn computes a hard-swish inside the convolution before it, and `f` goes into that convolution's
scales; what reads `y` multiplies by `6 / f`, in its own scales where it can.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import FusedLayer

_OFFSET, _NEAR = 3.0, 0.02  # a rounded bias is so near to the offset
_SIX = 6.0
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
        not any(gate.conv.attributes["paddings"]) and max(gate.conv.attributes["strides"]) == 1 and channels > 1
    )
    six = abs(last.attributes.get("threshold", _SIX) - _SIX) < 1e-6
    return single and plain and six and bool(np.allclose(values[gate.bias], _OFFSET, rtol=0, atol=_NEAR))


def _weight(op: Operator) -> str:
    return op.input("Filter0") or ""
