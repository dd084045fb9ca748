"""Convolutions on a tape, with both of their gradients."""

from __future__ import annotations

from collections.abc import Sequence

from picoquant.training.onednn.library import Algorithm, Arg, Kind, Propagation, Query, Tag, integers
from picoquant.training.onednn.lowering import Lowering
from picoquant.training.onednn.nodes import Convolution
from picoquant.training.onednn.tape import Layout, View

_SIZE, _PART = 5, 3  # columns of a filter, and of each part of it


class Kernel:
    """The primitives of one convolution.

    Args:
        lowering: its tape and what it knows.
        source, weights, result: shapes; weights are `[C', C, h, w]`, or `[G, C' / G, C / G, h, w]` with G groups.
        strides, paddings: vertical and horizontal; `paddings` above and left.
        bias: whether there is one.
    """

    def __init__(
        self,
        lowering: Lowering,
        source: Sequence[int],
        weights: Sequence[int],
        result: Sequence[int],
        strides: Sequence[int] = (1, 1),
        paddings: Sequence[int] = (0, 0),
        bias: bool = False,
    ) -> None:
        self._lowering, self._tape, self._library = lowering, lowering.tape, lowering.library
        self.source, self.weights, self.result = tuple(source), tuple(weights), tuple(result)
        self._bias = lowering.plain((result[1],)).address if bias else None
        ends = [
            (out - 1) * stride + size - length - padding
            for out, stride, size, length, padding in zip(
                result[2:], strides, weights[-2:], source[2:], paddings
            )
        ]
        self._geometry = tuple(integers(one) for one in (strides, (0, 0), paddings, ends))
        self._depthwise = len(weights) > len(result) and tuple(weights[1:3]) == (1, 1)

    def forward(self, source: Layout, kind: Kind, result: Layout) -> int:
        """The descriptor of the forward pass; `kind`: of the weights."""
        library = self._library
        return library.made(
            "convolution_forward_primitive_desc", library.engine, Propagation.FORWARD, Algorithm.CONVOLUTION,
            source.address, self._any(kind).address, self._bias, result.address, *self._geometry,
            library.attributes,
        )  # fmt: skip

    def _any(self, kind: Kind) -> Layout:
        return self._tape.layout(self.weights, kind, Tag.ANY)

    def weights_of(self, made: int, kind: Kind, stored: View) -> View:
        """The weights as a descriptor reads them; `stored` has their shape."""
        return self._tape.in_layout(stored, self._tape.described(made, Query.WEIGHTS, self.weights, kind))

    def gradient_of_weights(self, source: View, given: View, target: View, bias: View | None = None) -> None:
        """Write the gradient of the weights, in 32-bit floats, and that of the bias.

        Where oneDNN has only a reference kernel for bfloat16 it is computed in 32-bit floats.

        Args:
            source: what was convolved.
            given: the result's gradient, in the source's number format.
            target, bias: where they go.
        """
        library, tape = self._library, self._tape
        made = self._for_weights(source.layout, given.layout)
        if source.layout.kind is Kind.BF16 and library.implementation(made).startswith("ref"):
            library.destroy("primitive_desc", made)
            given = self._lowering.as_kind(given, Kind.F32)
            made = self._for_weights(tape.layout(self.source, Kind.F32, Tag.ANY), given.layout)
            source = tape.in_layout(source, tape.described(made, Query.SRC, self.source, Kind.F32))
        layout = tape.described(made, Query.DIFF_WEIGHTS, self.weights, Kind.F32)
        same = library.equal(layout.address, target.layout.address)
        found = target if same else tape.new(layout)
        arguments = {Arg.SRC: source, Arg.DIFF_DST: given, Arg.DIFF_WEIGHTS: found}
        tape.add(made, arguments if bias is None else {**arguments, Arg.DIFF_BIAS: bias})
        if not same:
            tape.reorder(found, target)

    def _for_weights(self, source: Layout, given: Layout) -> int:
        library = self._library
        hint = self.forward(source, source.kind, given)
        return library.backward(
            "convolution_backward_weights", hint, Algorithm.CONVOLUTION, source.address,
            self._any(Kind.F32).address, self._bias, given.address, *self._geometry,
        )  # fmt: skip

    def gradient_of_source(self, given: View, stored: View, target: View) -> None:
        """Write the gradient of what was convolved, in the number format of the result's, `given`."""
        library, kind = self._library, given.layout.kind
        hint = self.forward(target.layout, kind, given.layout)
        made = library.backward(
            "convolution_backward_data", hint, Algorithm.CONVOLUTION, target.layout.address,
            self._any(kind).address, given.layout.address, *self._geometry,
        )  # fmt: skip
        while self._depthwise and library.implementation(made).startswith(
            "brg"
        ):  # its kernels are for dense ones
            if not library.next_implementation(made):
                break
        weights = self.weights_of(made, kind, stored)
        self._tape.add(made, {Arg.DIFF_SRC: target, Arg.WEIGHTS: weights, Arg.DIFF_DST: given})


def convolution(lowering: Lowering, node: Convolution) -> None:
    """Write a convolution of a network."""
    tape, kind = lowering.tape, lowering.precision
    source = lowering.maps[node.x]
    count, channels, *size = source.layout.shape
    width, per_group, *window = node.shape
    weights = (width, per_group, *window)
    if node.groups > 1:
        weights = (node.groups, width // node.groups, per_group, *window)
    result_size = [
        (length + 2 * padding - filter_size) // stride + 1
        for length, padding, filter_size, stride in zip(size, node.paddings, window, node.strides)
    ]
    shapes = (source.layout.shape, weights, (count, width, *result_size))
    kernel = Kernel(lowering, *shapes, node.strides, node.paddings, bool(node.bias))
    result = tape.new(lowering.map_layout(kernel.result, lowering.kind_of_result(node)))
    if not lowering.is_image(node.x):
        source = lowering.as_kind(source, kind)
        made = kernel.forward(source.layout, kind, result.layout)
    else:
        made = kernel.forward(tape.layout(kernel.source, kind, Tag.ANY), kind, result.layout)
        source = tape.in_layout(source, tape.described(made, Query.SRC, kernel.source, kind))
    stored = lowering.parameter(node.weight, weights)
    arguments = {Arg.SRC: source, Arg.WEIGHTS: kernel.weights_of(made, kind, stored), Arg.DST: result}
    if node.bias:
        arguments[Arg.BIAS] = lowering.parameter(node.bias, (width,))
    tape.add(made, arguments)
    lowering.maps[node.out] = result
    depthwise = node.groups == channels == width

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        given = lowering.as_kind(gradient.view, kind)
        target = lowering.parameter_gradient(node.weight, weights)
        bias = lowering.parameter_gradient(node.bias, (width,)) if node.bias else None
        if node.weight not in lowering.trained and node.bias not in lowering.trained:
            pass
        elif depthwise and window[1] == _SIZE and node.paddings[1] == _SIZE // 2:
            _in_two_parts(kernel, lowering, node, source, given, target, bias)
        else:
            kernel.gradient_of_weights(source, given, target, bias)
        if lowering.wants(node.x):
            # oneDNN 3.2 takes ten times as long in bfloat16 for depthwise convolutions that skip pixels
            slow = depthwise and node.strides != (1, 1)
            given = lowering.as_kind(given, Kind.F32 if slow else kind)
            found = tape.new(lowering.map_layout(kernel.source, given.layout.kind))
            kernel.gradient_of_source(given, stored, found)
            lowering.give(node.x, found)

    lowering.backward.append(backward)


def _in_two_parts(
    kernel: Kernel,
    lowering: Lowering,
    node: Convolution,
    source: View,
    given: View,
    target: View,
    bias: View | None,
) -> None:
    """The weights' gradient of a depthwise convolution of five columns, in two parts of three.

    oneDNN has a fast kernel for at most three columns, with a padding of at most one. The last three are those of the
    source with two columns of zeros behind each row, the first three those of the source with two before it: the same
    memory, read from two zeros before its beginning on. The middle column is in both.
    """
    tape, zeros, kind = lowering.tape, _SIZE // 2, source.layout.kind
    count, channels, height, width = kernel.source
    layout = lowering.map_layout((count, channels, height, width + zeros), kind)
    before = lowering.map_layout((1, lowering.padded(1), 1, zeros), kind)
    wide = tape.new(layout, before.bytes)
    nothing = lowering.constant(lowering.map_layout((count, channels, height, zeros), kind), 0.0)
    for begin, part in ((0, source), (width, nothing)):
        columns = tape.part(layout, 3, begin, part.layout.shape[3])
        tape.reorder(part, View(columns, wide.buffer, wide.behind))
    first = View(layout, wide.buffer)
    tape.reorder(lowering.constant(before, 0.0), View(before, wide.buffer))
    found: list[View] = []
    for part in (first, wide):
        part_weights = (*kernel.weights[:-1], _PART)
        of_bias = None if found else bias  # once
        part_kernel = Kernel(lowering, layout.shape, part_weights, kernel.result, node.strides,
                             (node.paddings[0], 0), of_bias is not None)  # fmt: skip
        found.append(tape.new(lowering.plain(part_weights)))
        part_kernel.gradient_of_weights(part, given, found[-1], of_bias)
    axis, rest = len(kernel.weights) - 1, _SIZE - _PART
    tape.reorder(found[0], View(tape.part(target.layout, axis, 0, _PART), target.buffer))
    last = View(tape.part(found[1].layout, axis, _PART - rest, rest), found[1].buffer)
    tape.reorder(last, View(tape.part(target.layout, axis, _PART, rest), target.buffer))
