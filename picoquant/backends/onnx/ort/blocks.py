"""Convolutions of large windows to one channel, a block of neighbouring results at a time.

Kernels compute some 16 channels at once; of a convolution to one channel 15 of them are nothing. Where a block of
`h x w` results is `h * w` channels of one result, with stride `(h, w)` and a window larger by the block, all channels
are used: a 5x5 convolution takes `8 * 8` products in place of `5 * 5 * 16` for each of its inputs' channels and 16
results, if blocks are of 4x4. What is computed of each result alone, and 1x1 convolutions, stay as they are, block by
block; then the bytes of blocks go to their places. The sums are of the same products and zeros, so that integers stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from onnx import helper

from picoquant.backends.onnx.graph import Graph, Node, attribute, make_node
from picoquant.backends.onnx.ort.channels import pad_stored
from picoquant.backends.onnx.ort.layout import stored_levels

_CHANNELS = 16  # that a kernel computes at once
_WORTH = 2**18  # products of one channel: fewer take less time than putting blocks apart
_ALONE = ("QuantizeLinear", "DequantizeLinear", "Clip", "Relu", "Add", "Mul", "HardSigmoid", "HardSwish")


@dataclass
class _Chain:
    """What follows a convolution to one channel.

    Attributes:
        pointwise: 1x1 convolutions, from one channel to one.
        names: the tensors that get blocks as channels.
        last: the DequantizeLinear whose result something else takes.
    """

    pointwise: list[Node] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    last: Node | None = None


def blocks_as_channels(graph: Graph, fill: bool = False) -> list[str]:
    """Let large convolutions to one channel compute blocks of their results at a time.

    Args:
        graph: with quantised tensors and weights; its `shapes` follow.
        fill: give them 16 channels, where the block is smaller and a 1x1 convolution follows, which ignores the others.

    Returns: names of the convolutions.
    """
    done = []
    for conv in [node for node in graph.nodes if node.op_type == "Conv"]:
        block = _block(graph, conv)
        chain = _chain(graph, conv) if block is not None else None
        if block is None or chain is None:
            continue
        _widen(graph, conv, block)
        count = block[0] * block[1]
        for pointwise in chain.pointwise:
            (number,) = stored_levels(graph, pointwise).ravel()
            _store(graph, pointwise, (np.eye(count, dtype=np.int8) * number).reshape(count, count, 1, 1))
        if fill and chain.pointwise and count < _CHANNELS:
            for stored in conv.input[1:3]:
                pad_stored(graph, stored, 0, _CHANNELS - count)
            pad_stored(graph, chain.pointwise[0].input[1], 1, _CHANNELS - count)
        _, _, height, width = graph.shapes[conv.output[0]]
        cells = [height // block[0], width // block[1]]
        channels = stored_levels(graph, conv).shape[0]
        for name in chain.names:  # in the order in which they are computed
            channels = count if any(name in node.output for node in chain.pointwise) else channels
            if name in graph.shapes:
                graph.shapes[name] = [1, channels, *cells]
        _put_apart(graph, chain.last, block, cells)
        done.append(conv.name)
    return done


def _block(graph: Graph, conv: Node) -> tuple[int, int] | None:
    """Height and width of the blocks; None where that is not worth it or another kind of convolution."""
    levels, shape = stored_levels(graph, conv), graph.shapes.get(conv.output[0], [])
    if (
        levels is None
        or levels.dtype != np.int8
        or levels.ndim != 4
        or levels.shape[0] != 1
        or len(conv.input) < 3
    ):
        return None
    _, channels, *kernel = levels.shape
    plain = (
        all(set(attribute(conv, name, [1])) == {1} for name in ("strides", "dilations"))
        and attribute(conv, "group", 1) == 1
    )
    middle = [size // 2 for size in kernel]
    same = all(size % 2 for size in kernel) and list(attribute(conv, "pads", [0] * 4)) == middle * 2
    stored = [graph.producer(name) for name in conv.input[1:3]]
    alone = all(
        back is not None and back.op_type == "DequantizeLinear" and len(graph.users(back.output[0])) == 1
        for back in stored
    )
    if not (plain and same and alone) or len(shape) != 4 or shape[:2] != [1, 1] or max(kernel) == 1:
        return None
    height, width = shape[2:]
    if channels * kernel[0] * kernel[1] * height * width < _WORTH:
        return None
    sizes = [
        (h, w)
        for h in range(1, kernel[0])
        for w in range(1, kernel[1])
        if height % h == 0 and width % w == 0 and h * w <= _CHANNELS
    ]  # larger ones, as 13 x 1, would be stored with many more zeros for little more speed
    best = min(sizes, key=lambda size: (_products(size, kernel), size[1]))  # rows of results stay long
    return best if _products(best, kernel) < _products((1, 1), kernel) / 2 else None


def _products(block: tuple[int, int], kernel: list[int]) -> float:
    """Places of the window for each result."""
    return (kernel[0] + block[0] - 1) * (kernel[1] + block[1] - 1) / (block[0] * block[1])


def _chain(graph: Graph, conv: Node) -> _Chain | None:
    """What follows, up to the one tensor that something else takes; None where there are others, or it is a result."""
    chain, outside = _Chain(names=list(conv.output)), set()
    for node in graph.nodes:
        taken = set(node.input) & set(chain.names)
        if not taken:
            continue
        if node.op_type == "Conv" and _is_pointwise(graph, node):
            chain.pointwise.append(node)
        elif node.op_type not in _ALONE or not all(
            name in chain.names or _single(graph, name) for name in node.input if name
        ):
            outside |= taken
            continue
        chain.names += node.output
    if len(outside) != 1 or not set(chain.names).isdisjoint(graph.outputs):
        return None
    (name,) = outside
    chain.last = graph.producer(name)
    ends = chain.last.op_type == "DequantizeLinear" and set(graph.users(chain.last.input[0])) == {chain.last}
    within = {taken for node in graph.nodes for taken in node.input if node.output[0] in chain.names}
    return chain if ends and name not in within else None


def _is_pointwise(graph: Graph, conv: Node) -> bool:
    """Whether a convolution takes one channel and gives one, of each place alone."""
    levels = stored_levels(graph, conv)
    plain = not any(attribute(conv, "pads", [0])) and set(attribute(conv, "strides", [1])) == {1}
    alone = all(len(graph.users(name)) == 1 for name in conv.input[1:])
    return levels is not None and levels.dtype == np.int8 and levels.shape == (1, 1, 1, 1) and plain and alone


def _single(graph: Graph, name: str) -> bool:
    """Whether a tensor is a constant of one number."""
    back = graph.producer(name)
    value = graph.constants.get(name if back is None else back.input[0])
    stored = back is None or back.op_type == "DequantizeLinear"
    return stored and value is not None and value.size == 1


def _widen(graph: Graph, conv: Node, block: tuple[int, int]) -> None:
    levels = stored_levels(graph, conv)
    _, channels, height, width = levels.shape
    wide = np.zeros((*block, channels, height + block[0] - 1, width + block[1] - 1), levels.dtype)
    for row in range(block[0]):
        for column in range(block[1]):
            wide[row, column, :, row : row + height, column : column + width] = levels[0]
    _store(graph, conv, wide.reshape(-1, *wide.shape[2:]))
    kept = [item for item in conv.attribute if item.name not in ("strides", "kernel_shape")]
    conv.attribute = [
        *kept,
        helper.make_attribute("strides", list(block)),
        helper.make_attribute("kernel_shape", list(wide.shape[-2:])),
    ]


def _store(graph: Graph, conv: Node, levels: np.ndarray) -> None:
    """Give a convolution to one channel other weights, and its bias and its scales as often as these have channels."""
    for place, name in enumerate(conv.input[1:3]):
        back = graph.producer(name)
        for position, stored in enumerate(back.input):
            value = graph.constants[stored]
            if position == 0 and place == 0:
                graph.constants[stored] = levels
            elif value.ndim == 1:
                graph.constants[stored] = np.repeat(value, len(levels))


def _put_apart(graph: Graph, last: Node, block: tuple[int, int], cells: list[int]) -> None:
    """Bring the blocks' bytes to their places, before they are scaled back.

    Of one channel `[1, 1, H, W]` is the same in memory as with the channels last, so that a Reshape behind, of either,
    takes it as well from the rows of the blocks.
    """
    stem, source = f"{last.input[0]}.blocks", last.input[0]
    graph.constants[f"{stem}.shape"] = np.array([1, *cells, *block])
    graph.constants[f"{stem}.image"] = np.array([1, 1, cells[0] * block[0], cells[1] * block[1]])
    steps = [
        ("Transpose", f"{stem}.last", [], {"perm": [0, 2, 3, 1]}),
        ("Reshape", f"{stem}.apart", [f"{stem}.shape"], {}),
        ("Transpose", f"{stem}.rows", [], {"perm": [0, 1, 3, 2, 4]}),
    ]
    if not _reshape_behind(graph, last):
        steps.append(("Reshape", f"{stem}.places", [f"{stem}.image"], {}))
    for kind, name, more, attributes in steps:
        graph.insert_before(last, [make_node(kind, [source, *more], [name], name, **attributes)])
        source = name
    last.input[0] = source


def _reshape_behind(graph: Graph, last: Node) -> bool:
    """Whether a Reshape alone takes a tensor of one channel, after a Transpose to the channels last was taken out."""
    users = graph.users(last.output[0])
    turned = users[0] if len(users) == 1 and list(attribute(users[0], "perm", [])) == [0, 2, 3, 1] else None
    if turned is not None and turned.output[0] not in graph.outputs:
        users = graph.users(turned.output[0])
    shapes = [graph.constants.get(user.input[1], np.zeros(1)) for user in users if user.op_type == "Reshape"]
    if len(users) != 1 or len(shapes) != 1 or not shapes[0].all():
        return False
    if users[0].input[0] != last.output[0]:
        users[0].input[0] = last.output[0]
        graph.remove(turned)
    return True
