"""Neighbouring pixels seen as channels: with the channels last, as ONNX Runtime keeps them inside, that is free.

ONNX Runtime's integer convolution notes an address for each kernel position of each pixel before it multiplies;
with few channels that is half of its time. Where several columns are one pixel with more channels there are fewer
of both. Its Resize takes bytes one by one; a copy of rows of bytes does not. All of it moves or adds the same
numbers, and zeros, so results stay the same bit by bit.
"""

from __future__ import annotations

import numpy as np
from onnx import helper

from picoquant.backends.onnx.graph import Graph, Node, attribute, make_node

_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]  # channels
_MOST_CHANNELS = 128  # of a gate, which more make no faster
_MANY_PIXELS = 2**13  # below, the gate itself takes no longer than the two views


def stem_in_columns(graph: Graph, columns: int = 4) -> list[str]:
    """Let the convolution of stride 2 that takes the image see four of its columns as one of 12 channels.

    12 is a multiple of 4, which the fast kernel needs, and the image's 3 are not. The columns of a plane stay next to
    each other, so that four bytes are moved at a time.

    Args:
        graph: with quantised tensors and weights.
        columns: how many.

    Returns: names of the convolutions that were rewritten.
    """
    done = []
    for node in [node for node in graph.nodes if node.op_type == "Conv"]:
        weight = stored_levels(graph, node)
        if weight is None or weight.shape[1] != 3 or weight.shape[0] < 16 or weight.shape[3] != 3:
            continue
        if list(attribute(node, "strides", [1, 1])) == [2, 2] and fits_columns(graph, node, columns):
            maker = graph.producer(graph.producer(node.input[0]).input[0])
            columns_as_channels(graph, node, columns, planes=maker.input[0] in graph.inputs)
            done.append(node.name)
    return done


def gates_in_columns(graph: Graph) -> list[str]:
    """Let depthwise convolutions at one position, the gates of written-out hard-swishes, see columns as channels.

    They have an address for each pixel, too, and compute up to 64 channels at a time.

    Args:
        graph: with quantised tensors and weights; channels are a multiple of 16.

    Returns: names of the convolutions that were rewritten.
    """
    done = []
    for node in [node for node in graph.nodes if node.op_type == "Conv"]:
        shape, levels = graph.shapes.get(node.output[0], []), stored_levels(graph, node)
        groups = attribute(node, "group", 1)
        if levels is None or len(shape) != 4 or levels.shape != (groups, 1, 1, 1) or groups == 1:
            continue
        fitting = [n for n in (2, 4, 8) if shape[3] % n == 0 and groups * n <= _MOST_CHANNELS]
        if not fitting or shape[2] * shape[3] < _MANY_PIXELS or set(attribute(node, "strides", [1])) != {1}:
            continue
        if any(attribute(node, "pads", [0])) or not _alone_between_roundings(graph, node, shape):
            continue
        columns = fitting[-1]
        for maker in (graph.producer(name) for name in node.input[1:3]):
            for name in maker.input:
                value = graph.constants[name]
                graph.constants[name] = (
                    np.tile(value, (columns, *[1] * (value.ndim - 1))) if value.ndim else value
                )
        kept = [item for item in node.attribute if item.name != "group"]
        node.attribute = [*kept, helper.make_attribute("group", groups * columns)]
        seen = [1, shape[2], shape[3] // columns, groups * columns]
        _between_views(graph, node, seen, [1, shape[2], shape[3], groups])
        done.append(node.name)
    return done


def fits_columns(graph: Graph, node: Node, columns: int) -> bool:
    """Whether `columns_as_channels` can be done to a convolution."""
    back, levels = graph.producer(node.input[0]), stored_levels(graph, node)
    out_shape = graph.shapes.get(node.output[0], [])
    if levels is None or len(out_shape) != 4 or not _alone_between_roundings(graph, node):
        return False
    shape = _shape_before(graph, back.input[0])
    if shape[0] != 1 or levels.shape[1] != shape[1]:
        return False
    plain = attribute(node, "group", 1) == 1 and set(attribute(node, "dilations", [1, 1])) == {1}
    stride = attribute(node, "strides", [1, 1])[1]
    return plain and columns % stride == 0 and shape[3] % columns == 0 and out_shape[3] * stride == shape[3]


def _alone_between_roundings(graph: Graph, node: Node, shape: list[int] | None = None) -> bool:
    """Whether a convolution takes and gives tensors of bytes, and alone has its weight and its bias.

    Args:
        shape: that its input must have; None: any of four sizes.
    """
    back, users = graph.producer(node.input[0]), graph.users(node.output[0])
    if back is None or back.op_type != "DequantizeLinear" or len(node.input) < 3:
        return False
    if len(users) != 1 or users[0].op_type != "QuantizeLinear" or node.output[0] in graph.outputs:
        return False
    stored = [graph.producer(name) for name in node.input[1:3]]
    alone = all(maker is not None and len(graph.users(maker.output[0])) == 1 for maker in stored)
    taken = _shape_before(graph, back.input[0])
    return alone and len(taken) == 4 and (shape is None or taken == shape)


def columns_as_channels(graph: Graph, node: Node, columns: int, planes: bool = False) -> None:
    """Rewrite a quantised convolution on `columns` columns at a time, its results' columns alike.

    Args:
        graph: with quantised tensors and weights.
        node: a convolution of which `fits_columns` holds.
        columns: of its input.
        planes: the input has its channels first in memory, too: each channel's columns follow each other then.
    """
    back, levels = graph.producer(node.input[0]), stored_levels(graph, node)
    _, _, height, width = _shape_before(graph, back.input[0])
    out, channels = levels.shape[:2]
    out_shape = graph.shapes[node.output[0]]
    strides, pads = attribute(node, "strides", [1, 1]), attribute(node, "pads", [0, 0, 0, 0])
    stored = [graph.producer(name) for name in node.input[1:3]]
    together = columns // strides[1]
    wide, first = _wide_kernel(levels, columns, strides[1], pads[1])
    if planes:
        apart = wide.reshape(len(wide), columns, channels, *wide.shape[2:])
        wide = np.ascontiguousarray(apart.swapaxes(1, 2)).reshape(wide.shape)
    graph.constants[stored[0].input[0]] = wide
    for maker in stored:
        for name in maker.input:
            value = graph.constants[name]
            if value.ndim == 1:  # a bias, or scales of channels
                graph.constants[name] = np.tile(value, together)
    last = wide.shape[3] - 1 + first
    kept = [item for item in node.attribute if item.name not in ("strides", "pads", "kernel_shape")]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.extend(
        [
            helper.make_attribute("kernel_shape", list(wide.shape[2:])),
            helper.make_attribute("strides", [strides[0], 1]),
            helper.make_attribute("pads", [pads[0], -first, pads[2], last]),
        ]
    )
    seen = [1, height, width // columns, columns * channels]
    _between_views(graph, node, seen, [1, *out_shape[2:], out], columns if planes else 0)


def _between_views(graph: Graph, node: Node, taken: list[int], given: list[int], planes: int = 0) -> None:
    """Let a convolution take its input in another shape, and bring its result into the one that follows.

    Args:
        graph: changed in place.
        node: of which `_alone_between_roundings` holds.
        taken, given: `[1, height, width, channels]`.
        planes: columns that are one, of an input with its channels first in memory; 0: it has them last.
    """
    back, (quantise,), name = graph.producer(node.input[0]), graph.users(node.output[0]), node.name
    view = _view(graph, f"{name}.columns", back.input[0], taken)
    if planes:
        graph.constants[f"{name}.columns.planes"] = np.array(
            [1, taken[3] // planes, taken[1] * taken[2], planes]
        )
        view[:1] = [
            _node("Reshape", [back.input[0], f"{name}.columns.planes"], f"{name}.columns.apart"),
            _node("Transpose", [f"{name}.columns.apart"], f"{name}.columns.last", perm=[0, 2, 1, 3]),
        ]
    new = make_node(
        "DequantizeLinear", [view[-1].output[0], *back.input[1:]], [f"{name}.columns"], f"{name}.columns"
    )
    graph.insert_before(node, [*view, new])
    node.input[0] = f"{name}.columns"
    if not graph.users(back.output[0]) and back.output[0] not in graph.outputs:
        graph.remove(back)
    result = quantise.output[0]
    quantise.output[0] = quantise.name = f"{result}.columns"
    for place in reversed(_view(graph, f"{result}.pixels", f"{result}.columns", given, result)):
        graph.insert_after(quantise, place)


def _wide_kernel(levels: np.ndarray, columns: int, stride: int, pad: int) -> tuple[np.ndarray, int]:
    """A kernel that takes and gives several columns at a time.

    Args:
        levels: `[out, in, kh, kw]`.
        columns: of the input that are one.
        stride: along the columns.
        pad: columns before the first.

    Returns: `[columns / stride * out, columns * in, kh, blocks]`, and the place of its first block against the
        result's, at most 0.
    """
    out, channels, height, width = levels.shape
    together = columns // stride
    first = -pad // columns
    last = max(0, ((together - 1) * stride - pad + width - 1) // columns)
    wide = np.zeros((together, out, columns, channels, height, last - first + 1), levels.dtype)
    for result in range(together):
        for tap in range(width):
            block, column = divmod(result * stride - pad + tap, columns)
            wide[result, :, column, :, :, block - first] = levels[:, :, :, tap]
    return wide.reshape(together * out, columns * channels, height, -1), first


def double_by_copying(graph: Graph) -> list[str]:
    """Write each Resize that doubles height and width of bytes as copies: of each pixel, then of each row.

    Args:
        graph: with quantised tensors.

    Returns: names of the tensors that are made so.
    """
    done = []
    for node in [node for node in graph.nodes if node.op_type == "Resize"]:
        back, users = graph.producer(node.input[0]), graph.users(node.output[0])
        shape = graph.shapes.get(node.output[0], [])
        if not _doubles(graph, node) or len(shape) != 4 or len(users) != 1 or node.output[0] in graph.outputs:
            continue
        quantise = users[0]
        if back is None or back.op_type != "DequantizeLinear" or quantise.op_type != "QuantizeLinear":
            continue
        if any(
            not np.array_equal(graph.constants[one], graph.constants[other])
            for one, other in zip(back.input[1:], quantise.input[1:])
        ):
            continue
        (_, channels, height, width), name = shape, node.output[0]
        graph.constants[f"{name}.row"] = np.array([1, height // 2, 1, width * channels])
        graph.constants[f"{name}.shape"] = np.array([1, height, width, channels])
        new = [
            _node("Transpose", [back.input[0]], f"{name}.last", perm=_LAST),
            _node("Concat", [f"{name}.last"] * 2, f"{name}.wide", axis=3),
            _node("Reshape", [f"{name}.wide", f"{name}.row"], f"{name}.rows"),
            _node("Concat", [f"{name}.rows"] * 2, f"{name}.high", axis=2),
            _node("Reshape", [f"{name}.high", f"{name}.shape"], f"{name}.pixels"),
            _node("Transpose", [f"{name}.pixels"], quantise.output[0], perm=_FIRST),
        ]
        graph.insert_before(node, new)
        graph.remove(node)
        graph.remove(quantise)
        if not graph.users(back.output[0]) and back.output[0] not in graph.outputs:
            graph.remove(back)
        done.append(name)
    return done


def _doubles(graph: Graph, node: Node) -> bool:
    back = graph.producer(node.input[0])
    before = _shape_before(graph, back.input[0]) if back is not None else []
    after = graph.shapes.get(node.output[0], [])
    nearest = attribute(node, "mode", b"nearest") in (b"nearest", "nearest")
    floor = attribute(node, "nearest_mode", b"round_prefer_floor") in (b"floor", "floor")
    asymmetric = attribute(node, "coordinate_transformation_mode", b"half_pixel") == b"asymmetric"
    twice = len(before) == 4 and after == [*before[:2], 2 * before[2], 2 * before[3]]
    return nearest and floor and asymmetric and twice and before[0] == 1


def stored_levels(graph: Graph, conv: Node) -> np.ndarray | None:
    """A convolution's weight in levels; None when it is stored as float."""
    maker = graph.producer(conv.input[1])
    return graph.constants.get(maker.input[0]) if maker is not None else None


def _shape_before(graph: Graph, stored: str) -> list[int]:
    """The shape of the tensor that was quantised into `stored`."""
    maker = graph.producer(stored)
    if maker is not None and maker.op_type == "Clip":
        maker = graph.producer(maker.input[0])
    known = maker is not None and maker.op_type == "QuantizeLinear"
    return graph.shapes.get(maker.input[0], []) if known else []


def _view(graph: Graph, stem: str, source: str, shape: list[int], result: str | None = None) -> list[Node]:
    """The channels last, another shape `[1, height, width, channels]`, the channels first."""
    graph.constants[f"{stem}.shape"] = np.array(shape)
    return [
        _node("Transpose", [source], f"{stem}.last", perm=_LAST),
        _node("Reshape", [f"{stem}.last", f"{stem}.shape"], f"{stem}.view"),
        _node("Transpose", [f"{stem}.view"], result or f"{stem}.uint8", perm=_FIRST),
    ]


def _node(kind: str, inputs: list[str], output: str, **attributes: object) -> Node:
    return make_node(kind, inputs, [output], output, **attributes)
