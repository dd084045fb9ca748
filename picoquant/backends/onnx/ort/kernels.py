"""Shape quantised convolutions so that ONNX Runtime has a fast kernel for them; results stay the same."""

from __future__ import annotations

import numpy as np

from picoquant.backends.onnx.graph import Graph, Node, attribute, make_node
from picoquant.backends.onnx.ort.channels import pad_stored
from picoquant.backends.onnx.ort.layout import columns_as_channels, fits_columns, stored_levels

# ONNX Runtime (MLAS, convsym.cpp) convolves uint8 without a copy of the input for each kernel position
# where there are at least 16 output channels and a multiple of 4 input channels.
_CHANNELS = 16
_MULTIPLE = 4
_WORTH = 2**20  # bytes of such a copy; below, the extra weights cost more than they save
_WORTH_PAIRS = 2**22  # the same for the weights of two columns at a time


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
        weight = stored_levels(graph, node)
        if follower is None or weight is None or len(node.input) < 3:
            continue
        out, *rest = weight.shape
        copied = int(np.prod(rest)) * int(np.prod(shapes.get(node.name, [0, 0])[2:]))
        if out >= _CHANNELS or rest[0] % _MULTIPLE or rest[1:] == [1] * len(rest[1:]) or copied < _WORTH:
            continue
        pairs = copied >= _WORTH_PAIRS and 2 * out <= _CHANNELS and fits_columns(graph, node, 2)
        more = (_CHANNELS // 2 if pairs else _CHANNELS) - out
        for stored in (node.input[1], node.input[2]):
            pad_stored(graph, stored, 0, more)
        pad_stored(graph, follower.input[1], 1, more)
        if pairs:
            columns_as_channels(graph, node, 2)
        widened.append(node.name)
    return widened


def pad_input_channels(graph: Graph) -> list[str]:
    """Give the network's image a fourth channel, of the level of 0, for a first convolution of 16 or more.

    Args:
        graph: with quantised tensors and weights.

    Returns: names of the convolutions whose weights grew.
    """
    grown = []
    for quantise in [node for node in graph.nodes if node.op_type == "QuantizeLinear"]:
        shape = graph.shapes.get(quantise.input[0], [])
        backs = graph.users(quantise.output[0])
        convolutions = [user for back in backs for user in graph.users(back.output[0])]
        if quantise.input[0] not in graph.inputs or len(shape) != 4 or not shape[1] % _MULTIPLE:
            continue
        if not convolutions or not all(_can_take_more(graph, conv, shape[1]) for conv in convolutions):
            continue
        more = _MULTIPLE - shape[1] % _MULTIPLE
        for name in dict.fromkeys(conv.input[1] for conv in convolutions):
            pad_stored(graph, name, 1, more)
        levels, pads = quantise.output[0], f"{quantise.name}.pads"
        graph.constants[pads] = np.array([0, 0, 0, 0, 0, more, 0, 0])
        quantise.output[0] = quantise.name = f"{levels}.image"
        zero = quantise.input[2]
        graph.insert_after(quantise, make_node("Pad", [f"{levels}.image", pads, zero], [levels], levels))
        grown.extend(conv.name for conv in convolutions)
    return grown


def _can_take_more(graph: Graph, node: Node, channels: int) -> bool:
    weight = stored_levels(graph, node) if node.op_type == "Conv" else None
    return weight is not None and weight.shape[0] >= _CHANNELS and weight.shape[1] == channels


def cells_last(graph: Graph) -> None:
    """Write `[N, C, H, W]` -> Reshape `[N, C, H*W]` -> Transpose `[N, H*W, C]` the other way round.

    ONNX Runtime keeps the channels last inside; transposed first, nothing is left to move.
    """
    for reshape in [node for node in graph.nodes if node.op_type == "Reshape"]:
        shape = graph.shapes.get(reshape.input[0], [])
        flat = graph.constants.get(reshape.input[1])
        users = graph.users(reshape.output[0])
        if len(shape) != 4 or 0 in shape or flat is None or len(users) != 1:
            continue
        n, c, h, w = shape
        numbers = [size or shape[place] for place, size in enumerate(flat.tolist())]
        if numbers not in ([n, c, h * w], [n, c, -1]) or reshape.output[0] in graph.outputs:
            continue
        transpose = users[0]
        if transpose.op_type != "Transpose" or list(attribute(transpose, "perm", [])) != [0, 2, 1]:
            continue
        graph.constants[f"{transpose.name}.shape"] = np.array([n, h * w, c])
        source, between, result = reshape.input[0], reshape.output[0], transpose.output[0]
        graph.insert_before(
            reshape,
            [
                make_node("Transpose", [source], [between], between, perm=[0, 2, 3, 1]),
                make_node("Reshape", [between, f"{transpose.name}.shape"], [result], result),
            ],
        )
        graph.remove(reshape)
        graph.remove(transpose)


def _only_follower(graph: Graph, node: Node) -> Node | None:
    """The convolution that alone takes a result in levels, through its quantiser."""
    name = node.output[0]
    while name not in graph.outputs:
        users = graph.users(name)
        if len(users) != 1:
            return None
        if users[0].op_type == "Conv":
            right = attribute(users[0], "group", 1) == 1 and stored_levels(graph, users[0]) is not None
            return users[0] if right and name != node.output[0] else None
        if users[0].op_type not in ("QuantizeLinear", "Clip", "DequantizeLinear"):
            return None
        name = users[0].output[0]
    return None
