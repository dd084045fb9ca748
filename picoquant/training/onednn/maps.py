"""What lies between convolutions on a tape: functions of each value, sums, concatenations, parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from picoquant.training.onednn.convolution import convolution
from picoquant.training.onednn.library import Arg, Propagation
from picoquant.training.onednn.lowering import Lowering
from picoquant.training.onednn.moved import enlarge, largest, mean, shuffle
from picoquant.training.onednn.nodes import (
    Add,
    BatchNorm,
    Concat,
    Convolution,
    Enlarge,
    Function,
    Gate,
    Largest,
    Mean,
    Product,
    Round,
    Rows,
    Shuffle,
    Slice,
    Total,
    Weighted,
)
from picoquant.training.onednn.norms import batch_norm
from picoquant.training.onednn.products import gate, product, total, weighted
from picoquant.training.onednn.rounding import rounding
from picoquant.training.onednn.tape import View


def function(lowering: Lowering, node: Function) -> None:
    """Write a function of each value by itself."""
    tape, library = lowering.tape, lowering.library
    source = lowering.maps[node.x]
    result = source if _may_replace(lowering, node) else tape.new(source.layout)
    layout = lowering.whole_blocks(source.layout) if node.keeps_zero else source.layout

    def descriptor() -> int:
        return library.made("eltwise_forward_primitive_desc", library.engine, Propagation.FORWARD, node.algorithm,
                            layout.address, layout.address, node.alpha, node.beta, library.attributes)  # fmt: skip

    tape.add(descriptor(), {Arg.SRC: View(layout, source.buffer), Arg.DST: View(layout, result.buffer)})
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        layouts = [layout.address] * 3
        made = library.backward(
            "eltwise_backward", descriptor(), node.algorithm, *layouts, node.alpha, node.beta
        )
        target = gradient.view if gradient.ours else tape.new(source.layout)
        found = {Arg.DIFF_DST: gradient.view, Arg.DIFF_SRC: target}
        found[Arg.DST if node.from_result else Arg.SRC] = result if node.from_result else source
        tape.add(made, {what: View(layout, view.buffer) for what, view in found.items()})
        lowering.give(node.x, target)

    lowering.backward.append(backward)


def _may_replace(lowering: Lowering, node: Function) -> bool:
    """Whether the result may take the place of what is read: nothing else reads that, not even a gradient."""
    graph = lowering.graph
    maker = next((one for one in graph.nodes if one.out == node.x), None)
    alone = len(graph.readers(node.x)) == 1 and node.x not in graph.outputs
    return node.from_result and alone and isinstance(maker, (BatchNorm, Convolution))


def add(lowering: Lowering, node: Add) -> None:
    """Write the sum of two maps."""
    parts = [lowering.maps[node.x], lowering.maps[node.y]]
    kind = max(part.layout.kind for part in parts)
    parts = [lowering.as_kind(part, kind) for part in parts]
    result = lowering.tape.new(parts[0].layout)
    lowering.sum(parts, result)
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is not None:
            lowering.give(node.x, gradient.view, ours=False)
            lowering.give(node.y, gradient.view, ours=False)

    lowering.backward.append(backward)


def concat(lowering: Lowering, node: Concat) -> None:
    """Write maps one after another along the channels."""
    tape = lowering.tape
    parts = [lowering.maps[name] for name in node.parts]
    count, _, height, width = parts[0].layout.shape
    channels = [part.layout.shape[1] for part in parts]
    kind = max(part.layout.kind for part in parts)
    result = tape.new(lowering.map_layout((count, sum(channels), height, width), kind))
    lowering.join(parts, result)
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        for name, part, piece in zip(node.parts, parts, lowering.divide(gradient.view, channels)):
            if lowering.wants(name):
                target = tape.new(part.layout)
                tape.reorder(piece, target)
                lowering.give(name, target)

    lowering.backward.append(backward)


def channels_of(lowering: Lowering, node: Slice) -> None:
    """Write some of a map's channels."""
    tape = lowering.tape
    source = lowering.maps[node.x]
    count, channels, height, width = source.layout.shape
    kind = source.layout.kind
    result = tape.new(lowering.map_layout((count, node.count, height, width), kind))
    counts = (node.first, node.count, channels - node.first - node.count)
    tape.reorder(lowering.divide(source, counts)[1 if node.first else 0], result)
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        target = tape.new(source.layout)
        before, behind = (
            [lowering.constant(lowering.map_layout((count, rest, height, width), kind), 0.0)] if rest else []
            for rest in counts[::2]
        )
        lowering.join([*before, gradient.view, *behind], target)
        lowering.give(node.x, target)

    lowering.backward.append(backward)


def rows(lowering: Lowering, node: Rows) -> None:
    """Nothing to write: only where it leaves the tape is a map in rows."""
    lowering.maps[node.out] = lowering.maps[node.x]

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is not None:
            lowering.give(node.x, gradient.view, gradient.ours)

    lowering.backward.append(backward)


NODES: Mapping[type, Callable[[Lowering, Any], None]] = {
    Convolution: convolution,
    BatchNorm: batch_norm,
    Function: function,
    Gate: gate,
    Weighted: weighted,
    Product: product,
    Round: rounding,
    Add: add,
    Total: total,
    Concat: concat,
    Slice: channels_of,
    Enlarge: enlarge,
    Mean: mean,
    Largest: largest,
    Shuffle: shuffle,
    Rows: rows,
}
