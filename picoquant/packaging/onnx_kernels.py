"""Shape quantised convolutions so that ONNX Runtime has a fast kernel for them; results stay the same."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from picoquant.packaging.onnx_graph import Graph, attribute

# ONNX Runtime (MLAS, convsym.cpp) convolves uint8 without a copy of the input for each kernel position
# where there are at least 16 output channels and a multiple of 4 input channels.
_CHANNELS = 16
_MULTIPLE = 4
_WORTH = 2**20  # bytes of such a copy; below, the extra weights cost more than they save


def widen_thin_convolutions(graph: Graph, shapes: dict[str, list[int]]) -> list[str]:
    """Give convolutions of few output channels more, all zero, which the 1x1 convolution behind ignores.

    PicoDet's alignment branch has a 5x5 convolution to one channel: copying its input for each of the 25
    positions takes longer than multiplying.

    Args:
        graph: with quantised weights.
        shapes: of the tensors before quantising, by name.

    Returns: names of the convolutions that were widened.
    """
    widened = []
    for node in [node for node in graph.nodes if node.op_type == "Conv" and attribute(node, "group", 1) == 1]:
        follower = _only_follower(graph, node)
        weight = _levels(graph, node)
        if follower is None or weight is None or len(node.input) < 3:
            continue
        out, *rest = weight.shape
        copied = int(np.prod(rest)) * int(np.prod(shapes.get(node.name, [0, 0])[2:]))
        if out >= _CHANNELS or rest[0] % _MULTIPLE or rest[1:] == [1] * len(rest[1:]) or copied < _WORTH:
            continue
        more = _CHANNELS - out
        for stored in (node.input[1], node.input[2]):
            _pad(graph, stored, 0, more)
        _pad(graph, follower.input[1], 1, more)
        widened.append(node.name)
    return widened


def _only_follower(graph: Graph, node: NodeProto) -> NodeProto | None:
    """The convolution that alone takes a result in levels, through its quantiser."""
    name = node.output[0]
    while name not in graph.outputs:
        users = graph.users(name)
        if len(users) != 1:
            return None
        if users[0].op_type == "Conv":
            right = attribute(users[0], "group", 1) == 1 and _levels(graph, users[0]) is not None
            return users[0] if right and name != node.output[0] else None
        if users[0].op_type not in ("QuantizeLinear", "Clip", "DequantizeLinear"):
            return None
        name = users[0].output[0]
    return None


def _levels(graph: Graph, conv: NodeProto) -> np.ndarray | None:
    """A convolution's weight in levels; None when it is stored as float."""
    maker = graph.producer(conv.input[1])
    return graph.constants.get(maker.input[0]) if maker is not None else None


def _pad(graph: Graph, name: str, axis: int, more: int) -> None:
    """Add zeros to what a DequantizeLinear scales back; added channels have the scale of the last."""
    back = graph.producer(name)
    for position, stored in enumerate(back.input):
        value = graph.constants[stored]
        if position and (axis != attribute(back, "axis", 1) or value.ndim == 0):
            continue
        along = axis if position == 0 else 0
        width = [(0, more if place == along else 0) for place in range(value.ndim)]
        graph.constants[stored] = np.pad(value, width, mode="constant" if position == 0 else "edge")
