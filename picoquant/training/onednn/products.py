"""Products and sums over channels on a tape, as convolutions: oneDNN has no other fast kernels for them."""

from __future__ import annotations

from picoquant.training.onednn.convolution import Kernel
from picoquant.training.onednn.library import Algorithm, Arg, Kind
from picoquant.training.onednn.lowering import Lowering
from picoquant.training.onednn.nodes import Gate, Product, Total, Weighted
from picoquant.training.onednn.tape import View


def gate(lowering: Lowering, node: Gate) -> None:
    """Write `x [N, C, H, W]` times `gate [N, C, 1, 1]`.

    The memory of N images in blocks of channels is that of one image with N times as many, which a depthwise
    convolution with filters of one value multiplies.
    """
    tape = lowering.tape
    source = lowering.maps[node.x]
    kind, (count, channels, height, width) = source.layout.kind, source.layout.shape
    factors = lowering.as_kind(lowering.maps[node.gate], kind)
    total = count * lowering.padded(channels)
    flat, small = (1, total, height, width), (total, 1, 1, 1, 1)
    kernel = Kernel(lowering, flat, small, flat)
    layout = lowering.map_layout(flat, kind)
    weights = View(tape.layout(small, kind, [1] * len(small)), factors.buffer)
    result = tape.new(source.layout)
    made = kernel.forward(layout, kind, layout)
    tape.add(
        made,
        {
            Arg.SRC: View(layout, source.buffer),
            Arg.WEIGHTS: kernel.weights_of(made, kind, weights),
            Arg.DST: View(layout, result.buffer),
        },
    )
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        given = View(layout, gradient.view.buffer)
        found = tape.new(lowering.map_layout(factors.layout.shape, Kind.F32))
        target = View(tape.layout(small, Kind.F32, [1] * len(small)), found.buffer)
        kernel.gradient_of_weights(View(layout, source.buffer), given, target)
        lowering.give(node.gate, found)
        if lowering.wants(node.x):
            passed = tape.new(source.layout)
            kernel.gradient_of_source(given, weights, View(layout, passed.buffer))
            lowering.give(node.x, passed)

    lowering.backward.append(backward)


def weighted(lowering: Lowering, node: Weighted) -> None:
    """Write `x [N, C, H, W]` times `weight [N, 1, H, W]`, in 32-bit floats.

    Convolutions with filters of ones repeat the weight for every channel, and sum its gradient over them.
    """
    tape = lowering.tape
    source, weight = (lowering.as_kind(lowering.maps[name], Kind.F32) for name in (node.x, node.weight))
    channels = source.layout.shape[1]
    repeat = Kernel(lowering, weight.layout.shape, (channels, 1, 1, 1), source.layout.shape)
    total = Kernel(lowering, source.layout.shape, (1, channels, 1, 1), weight.layout.shape)
    repeated = tape.new(source.layout)
    _ones(lowering, repeat, weight, repeated)
    result = tape.new(source.layout)
    _multiply(lowering, source, repeated, result)
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        given = lowering.as_kind(gradient.view, Kind.F32)
        for_weight, found = tape.new(source.layout), tape.new(weight.layout)
        _multiply(lowering, given, source, for_weight)
        _ones(lowering, total, for_weight, found)
        lowering.give(node.weight, found)
        for_source = tape.new(source.layout)
        _multiply(lowering, given, repeated, for_source)
        lowering.give(node.x, for_source)

    lowering.backward.append(backward)


def product(lowering: Lowering, node: Product) -> None:
    """Write the product of two maps, in 32-bit floats."""
    tape = lowering.tape
    one, other = (lowering.as_kind(lowering.maps[name], Kind.F32) for name in (node.x, node.y))
    result = tape.new(one.layout)
    _multiply(lowering, one, other, result)
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        given = lowering.as_kind(gradient.view, Kind.F32)
        for name, factor in ((node.x, other), (node.y, one)):
            if lowering.wants(name):
                found = tape.new(one.layout)
                _multiply(lowering, given, factor, found)
                lowering.give(name, found)

    lowering.backward.append(backward)


def total(lowering: Lowering, node: Total) -> None:
    """Write the sum of a map's channels, in 32-bit floats."""
    tape = lowering.tape
    source = lowering.maps[node.x]
    count, channels, *size = source.layout.shape
    shape = (count, 1, *size)
    result = tape.new(lowering.map_layout(shape, Kind.F32))
    _ones(lowering, Kernel(lowering, source.layout.shape, (1, channels, 1, 1), shape), source, result)
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        given = lowering.as_kind(gradient.view, source.layout.kind)
        found = tape.new(source.layout)
        _ones(lowering, Kernel(lowering, shape, (channels, 1, 1, 1), source.layout.shape), given, found)
        lowering.give(node.x, found)

    lowering.backward.append(backward)


def _ones(lowering: Lowering, kernel: Kernel, source: View, result: View) -> None:
    kind = source.layout.kind
    made = kernel.forward(source.layout, kind, result.layout)
    weights = kernel.weights_of(made, kind, lowering.constant(lowering.plain(kernel.weights), 1.0))
    lowering.tape.add(made, {Arg.SRC: source, Arg.WEIGHTS: weights, Arg.DST: result})


def _multiply(lowering: Lowering, one: View, other: View, result: View) -> None:
    library = lowering.library
    made = library.made("binary_primitive_desc", library.engine, Algorithm.MUL, one.layout.address,
                        other.layout.address, result.layout.address, library.attributes)  # fmt: skip
    lowering.tape.add(made, {Arg.SRC: one, Arg.SRC_1: other, Arg.DST: result})
