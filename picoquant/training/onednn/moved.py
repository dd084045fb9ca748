"""Values that are taken from other places on a tape: other sizes, the largest of windows, channels in another order."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from picoquant.training.onednn.library import Algorithm, Arg, Kind, Propagation, Query, integers
from picoquant.training.onednn.lowering import Lowering
from picoquant.training.onednn.nodes import Enlarge, Largest, Mean, Shuffle
from picoquant.training.onednn.tape import Layout, View

_CHANNELS = 1  # axis


def enlarge(lowering: Lowering, node: Enlarge) -> None:
    """Write every value several times."""
    source = lowering.maps[node.x].layout
    count, channels, height, width = source.shape
    shape = (count, channels, height * node.factor, width * node.factor)
    result = lowering.map_layout(shape, source.kind)
    factors = (ctypes.c_float * 2)(node.factor, node.factor)
    _moved(lowering, node, result, "resampling", (Algorithm.NEAREST, factors, source.address, result.address))


def mean(lowering: Lowering, node: Mean) -> None:
    """Write the mean of each channel."""
    source = lowering.maps[node.x].layout
    count, channels, height, width = source.shape
    result = lowering.map_layout((count, channels, 1, 1), source.kind)
    window, none = integers((height, width)), integers((0, 0))
    arguments = (Algorithm.MEAN, source.address, result.address, window, window, *[none] * 3)
    _moved(lowering, node, result, "pooling", arguments)


def largest(lowering: Lowering, node: Largest) -> None:
    """Write the largest values of windows."""
    source = lowering.maps[node.x].layout
    count, channels, *size = source.shape
    sides = [
        (length + 2 * padding - window) // stride + 1
        for length, padding, window, stride in zip(size, node.paddings, node.window, node.strides)
    ]
    ends = [
        (out - 1) * stride + window - length - padding
        for out, stride, window, length, padding in zip(sides, node.strides, node.window, size, node.paddings)
    ]
    result = lowering.map_layout((count, channels, *sides), source.kind)
    geometry = (integers(one) for one in (node.strides, node.window, (0, 0), node.paddings, ends))
    arguments = (Algorithm.LARGEST, source.address, result.address, *geometry)
    _moved(lowering, node, result, "pooling", arguments, chosen=True)


def shuffle(lowering: Lowering, node: Shuffle) -> None:
    """Write channels in another order."""
    layout = lowering.maps[node.x].layout
    size = layout.shape[_CHANNELS] // node.groups  # of a group
    _moved(lowering, node, layout, "shuffle", (layout.address, layout.address, _CHANNELS, size))


def _moved(
    lowering: Lowering,
    node: Enlarge | Mean | Largest | Shuffle,
    layout: Layout,
    kind: str,
    arguments: Sequence[Any],
    chosen: bool = False,
) -> None:
    """Write what reads a map and returns one of its values.

    Args:
        lowering, node: what is written.
        layout: of the result.
        kind, arguments: of the primitive, forward and backward.
        chosen: whether it keeps for its gradient which values it has taken.
    """
    tape, library = lowering.tape, lowering.library
    source, result = lowering.maps[node.x], tape.new(layout)

    def descriptor() -> int:
        return library.made(f"{kind}_forward_primitive_desc", library.engine, Propagation.FORWARD, *arguments,
                            library.attributes)  # fmt: skip

    made = descriptor()
    kept: dict[Arg, View] = {}
    if chosen:
        kept[Arg.WORKSPACE] = tape.new(tape.described(made, Query.WORKSPACE, (), Kind.F32))
    tape.add(made, {Arg.SRC: source, Arg.DST: result, **kept})
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        made = library.backward(f"{kind}_backward", descriptor(), *arguments)
        target = tape.new(source.layout)
        tape.add(made, {Arg.DIFF_DST: gradient.view, Arg.DIFF_SRC: target, **kept})
        lowering.give(node.x, target)

    lowering.backward.append(backward)
