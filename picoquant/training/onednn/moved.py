"""Values that are taken from other places on a tape: the largest of windows, channels in another order."""

from __future__ import annotations

from picoquant.training.onednn.library import Algorithm, Arg, Kind, Propagation, Query, integers
from picoquant.training.onednn.lowering import Lowering
from picoquant.training.onednn.nodes import Largest, Shuffle

_CHANNELS = 1  # axis


def largest(lowering: Lowering, node: Largest) -> None:
    """Write the largest values of windows."""
    tape, library = lowering.tape, lowering.library
    source = lowering.maps[node.x]
    count, channels, *size = source.layout.shape
    result_size = [
        (length + 2 * padding - window) // stride + 1
        for length, padding, window, stride in zip(size, node.paddings, node.window, node.strides)
    ]
    result = tape.new(lowering.map_layout((count, channels, *result_size), source.layout.kind))
    ends = [
        (out - 1) * stride + window - length - padding
        for out, stride, window, length, padding in zip(
            result_size, node.strides, node.window, size, node.paddings
        )
    ]
    geometry = tuple(integers(one) for one in (node.strides, node.window, (0, 0), node.paddings, ends))

    def descriptor() -> int:
        return library.made("pooling_forward_primitive_desc", library.engine, Propagation.FORWARD,
                            Algorithm.LARGEST, source.layout.address, result.layout.address, *geometry,
                            library.attributes)  # fmt: skip

    made = descriptor()
    chosen = tape.new(tape.described(made, Query.WORKSPACE, (), Kind.F32))
    tape.add(made, {Arg.SRC: source, Arg.DST: result, Arg.WORKSPACE: chosen})
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        hint = descriptor()
        made = library.made("pooling_backward_primitive_desc", library.engine, Algorithm.LARGEST,
                            source.layout.address, result.layout.address, *geometry, hint,
                            library.attributes)  # fmt: skip
        library.destroy("primitive_desc", hint)
        target = tape.new(source.layout)
        tape.add(made, {Arg.DIFF_DST: gradient.view, Arg.DIFF_SRC: target, Arg.WORKSPACE: chosen})
        lowering.give(node.x, target)

    lowering.backward.append(backward)


def shuffle(lowering: Lowering, node: Shuffle) -> None:
    """Write channels in another order."""
    tape, library = lowering.tape, lowering.library
    source = lowering.maps[node.x]
    layout = source.layout.address
    result = tape.new(source.layout)
    size = source.layout.shape[_CHANNELS] // node.groups  # of a group

    def descriptor() -> int:
        return library.made("shuffle_forward_primitive_desc", library.engine, Propagation.FORWARD, layout, layout,
                            _CHANNELS, size, library.attributes)  # fmt: skip

    tape.add(descriptor(), {Arg.SRC: source, Arg.DST: result})
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        hint = descriptor()
        made = library.made("shuffle_backward_primitive_desc", library.engine, layout, layout, _CHANNELS,
                            size, hint, library.attributes)  # fmt: skip
        library.destroy("primitive_desc", hint)
        target = tape.new(source.layout)
        tape.add(made, {Arg.DIFF_DST: gradient.view, Arg.DIFF_SRC: target})
        lowering.give(node.x, target)

    lowering.backward.append(backward)
