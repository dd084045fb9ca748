"""A graph's nodes as primitives, forward and backward, for images of one shape.

Feature maps lie in blocks of as many channels as a vector has values, which all kernels take without converting. In
bfloat16 those are the results of convolutions that are normalised and activated; weights, their gradients, batch-norm's
statistics, the predictions and all that follows them are 32-bit floats.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from picoquant.training.onednn.graph import Graph
from picoquant.training.onednn.library import Algorithm, Arg, Kind, Library, Tag
from picoquant.training.onednn.nodes import (
    BatchNorm,
    Convolution,
    Function,
    Rows,
    Total,
    reads,
)
from picoquant.training.onednn.nodes import (
    parameters as parameters_of,
)
from picoquant.training.onednn.tape import Layout, Tape, View

_ACTIVATIONS = (Algorithm.RELU_DST, Algorithm.CLIP_DST, Algorithm.HARD_SWISH)


@dataclass(frozen=True)
class Statistics:
    """Of a batch-norm: those of the batch, and the node whose running statistics follow them."""

    mean: View
    variance: View
    node: BatchNorm


@dataclass(frozen=True)
class Gradient:
    """Of a tensor; `ours`: nothing else reads this memory, so it may be overwritten."""

    view: View
    ours: bool


class Lowering:
    """The tape of a graph, and what goes in and out.

    Args:
        library: oneDNN.
        graph: what is computed.
        shapes: of the inputs, `[N, C, H, W]`.
        wanted: for each input whether its gradient is; images have none.
        parameters: the shape of each.
        trained: names of those whose gradients are wanted.
        precision: of feature maps.
        block: their layout.

    Attributes:
        tape: the primitives.
        inputs, outputs: memory of Paddle's, by name; `[N, H * W, C]` for rows.
        input_gradients, output_gradients: the same for gradients.
        values, gradients: of parameters, by name, in Paddle's layout.
        copied_in, copied_out: parameters and gradients `[C]`, by name, that have a place of their own here, followed by
            zeros: what runs the tape copies them before and after.
        statistics: of each batch-norm.
        rows: names of what is in rows.
        maps: results of the nodes that are written, by name.
        backward: what writes the gradients of each node, in the order of the nodes.
    """

    def __init__(
        self,
        library: Library,
        graph: Graph,
        shapes: Sequence[tuple[int, ...]],
        wanted: Sequence[bool],
        parameters: Mapping[str, tuple[int, ...]],
        trained: Container[str],
        precision: Kind,
        block: Tag,
    ) -> None:
        self.library, self.graph, self.parameters = library, graph, parameters
        self.precision, self._block = precision, block
        self._images = {name for name, one in zip(graph.inputs, wanted) if not one}
        self.trained = trained
        self._wanted = {name for name in graph.inputs if name not in self._images}
        for node in graph.nodes:
            if any(name in self._wanted for name in reads(node)) or any(
                name in trained for name in parameters_of(node)
            ):
                self._wanted.add(node.out)
        self._shapes = dict(zip(graph.inputs, shapes))
        self.tape = Tape(library)
        self.inputs: dict[str, View] = {}
        self.outputs: dict[str, View] = {}
        self.input_gradients: dict[str, View] = {}
        self.output_gradients: dict[str, View] = {}
        self.values: dict[str, View] = {}
        self.gradients: dict[str, View] = {}
        self.statistics: list[Statistics] = []
        self.maps: dict[str, View] = {}
        self.backward: list[Callable[[], None]] = []
        self.copied_in: dict[str, np.ndarray] = {}
        self.copied_out: dict[str, np.ndarray] = {}
        self._found: dict[str, list[Gradient]] = {}
        self._constants: list[np.ndarray] = []
        self.rows = {node.out for node in graph.nodes if isinstance(node, Rows)}

    def write(
        self,
        nodes: Mapping[type, Callable[[Lowering, Any], None]],
        together: Callable[[Lowering, Sequence[BatchNorm]], None],
    ) -> None:
        """Write the whole tape.

        Args:
            nodes: what writes each type of node.
            together: what writes the batch-norms of one message.
        """
        for name in self.graph.inputs:
            self._input(name)
        for message, stretch in groupby(self.graph.nodes, lambda node: getattr(node, "message", None)):
            if message is None:
                for node in stretch:
                    nodes[type(node)](self, node)
            else:
                together(self, [node for node in stretch if isinstance(node, BatchNorm)])
        for name in self.graph.outputs:
            self._output(name)
        self.tape.end_of_forward()
        self.tape.keep(view for one in self.statistics for view in (one.mean, one.variance))
        for step in reversed(self.backward):
            step()
        self.backward.clear()
        self.maps.clear()
        self.tape.plan()

    def map_layout(self, shape: Sequence[int], kind: Kind) -> Layout:
        """Of a feature map."""
        return self.tape.layout(shape, kind, self._block)

    def padded(self, channels: int) -> int:
        """Channels with those that fill the last block."""
        size = 16 if self._block is Tag.BLOCKS_OF_16 else 8
        return -(-channels // size) * size

    def whole_blocks(self, layout: Layout) -> Layout:
        """A feature map's layout with the channels that fill the last block, which are zeros."""
        count, channels, *size = layout.shape
        if self.padded(channels) == channels:
            return layout
        return self.map_layout((count, self.padded(channels), *size), layout.kind)

    def join(self, parts: Sequence[View], whole: View) -> None:
        """Copy feature maps to the channels of a larger one, one after another."""
        counts = [part.layout.shape[1] for part in parts]
        target = whole if self._fill_blocks(counts) else self.tape.new(self._by_pixels(whole.layout))
        for part, place in zip(parts, self._places(target, counts)):
            self.tape.reorder(part, place)
        if target is not whole:
            self.tape.reorder(target, whole)

    def divide(self, whole: View, counts: Sequence[int]) -> list[View]:
        """Views of so many channels of a feature map, one after another, or of a copy of it."""
        if not self._fill_blocks(counts):
            whole = self.tape.in_layout(whole, self._by_pixels(whole.layout))
        return self._places(whole, counts)

    def _places(self, whole: View, counts: Sequence[int]) -> list[View]:
        firsts = [sum(counts[:place]) for place in range(len(counts))]
        return [
            View(self.tape.part(whole.layout, 1, first, count), whole.buffer)
            for first, count in zip(firsts, counts)
            if count
        ]

    def _fill_blocks(self, counts: Sequence[int]) -> bool:
        """Whether all but the last are whole blocks: oneDNN describes no part of a map that begins within one."""
        return all(count == self.padded(count) for count in counts[:-1])

    def _by_pixels(self, layout: Layout) -> Layout:
        """A map's layout with the channels of a pixel together, any part of which oneDNN describes."""
        return self.tape.layout(layout.shape, layout.kind, Tag.ACDB)

    def plain(self, shape: Sequence[int]) -> Layout:
        """Of a tensor of Paddle's."""
        strides, size = [], 1
        for length in reversed(shape):
            strides.append(size)
            size *= length
        return self.tape.layout(shape, Kind.F32, strides[::-1])

    def parameter(self, name: str, shape: Sequence[int]) -> View:
        """A parameter where Paddle has it, seen as of a shape."""
        if name not in self.values:
            self.values[name] = self.tape.outside(self.plain(shape))
        return View(self.plain(shape), self.values[name].buffer)

    def parameter_gradient(self, name: str, shape: Sequence[int]) -> View:
        """Where a parameter's gradient goes, seen as of a shape; of those that are not trained nowhere."""
        if name not in self.trained:
            return self.tape.new(self.plain(shape))
        if name not in self.gradients:
            self.gradients[name] = self.tape.outside(self.plain(shape))
        return View(self.plain(shape), self.gradients[name].buffer)

    def vector(self, name: str, layout: Layout) -> View:
        """A parameter `[C]`, followed by zeros where the layout is longer."""
        return self._vector(name, layout, self.parameter, self.copied_in)

    def vector_gradient(self, name: str, layout: Layout) -> View:
        """Where the gradient of a parameter `[C]` goes; behind it lies more where the layout is longer."""
        return self._vector(name, layout, self.parameter_gradient, self.copied_out)

    def _vector(
        self,
        name: str,
        layout: Layout,
        as_it_is: Callable[[str, Sequence[int]], View],
        copied: dict[str, np.ndarray],
    ) -> View:
        if self.parameters[name] == layout.shape:
            return as_it_is(name, layout.shape)
        if copied is self.copied_out and name not in self.trained:
            return self.tape.new(layout)
        copied[name] = np.zeros(layout.shape, np.float32)
        return self.tape.outside(layout, int(copied[name].ctypes.data))

    def constant(self, layout: Layout, value: float) -> View:
        """A tensor of one value in 32-bit floats, or of zeros in any format."""
        array = np.zeros(layout.bytes // 4 + 16, np.float32)
        if value:
            array[:] = value
        self._constants.append(array)
        return self.tape.outside(layout, int(array.ctypes.data))

    def as_kind(self, view: View, kind: Kind) -> View:
        """A feature map in a number format."""
        if view.layout.kind is kind:
            return view
        return self.tape.in_layout(view, self.map_layout(view.layout.shape, kind))

    def kind_of_result(self, node: Convolution | BatchNorm) -> Kind:
        """Number format of a convolution's result, or of a batch-norm's."""
        readers = self.graph.readers(node.out)
        if isinstance(node, Convolution):
            reader = readers[0] if len(readers) == 1 else None
            if isinstance(reader, Total):
                return self.precision
            return self.kind_of_result(reader) if isinstance(reader, BatchNorm) else Kind.F32
        activated = [isinstance(one, Function) and one.algorithm in _ACTIVATIONS for one in readers]
        return self.precision if activated and all(activated) else Kind.F32

    def give(self, name: str, view: View, ours: bool = True) -> None:
        """Add to a tensor's gradient, in the number format of the tensor, where it is of use."""
        if not self.wants(name):
            return
        kind = self.maps[name].layout.kind
        if view.layout.kind is not kind:
            view, ours = self.as_kind(view, kind), True
        self._found.setdefault(name, []).append(Gradient(view, ours))

    def take(self, name: str) -> Gradient | None:
        """A tensor's gradient, all parts summed up; None where it has no influence on the outputs."""
        parts = self._found.pop(name, [])
        if len(parts) < 2:
            return parts[0] if parts else None
        parts.sort(key=lambda part: not part.ours)  # the sum takes the first one's place
        target = parts[0].view if parts[0].ours else self.tape.new(parts[0].view.layout)
        self.sum([part.view for part in parts], target)
        return Gradient(target, True)

    def sum(self, views: Sequence[View], target: View) -> None:
        """Write the sum of tensors of one layout; it may take the place of the first one."""
        library = self.library
        scales = (ctypes.c_float * len(views))(*[1.0] * len(views))
        sources = (ctypes.c_void_p * len(views))(*[view.layout.address for view in views])
        made = library.made("sum_primitive_desc", library.engine, target.layout.address, len(views), scales,
                            sources, library.attributes)  # fmt: skip
        arguments = {Arg.SEVERAL + place: view for place, view in enumerate(views)}
        self.tape.add(made, {**arguments, Arg.DST: target})

    def wants(self, name: str) -> bool:
        """Whether a tensor's gradient is of use: a trained parameter, or an input with a gradient, lies before it."""
        return name in self._wanted

    def is_image(self, name: str) -> bool:
        """Whether a tensor is an input without a gradient, which is in Paddle's layout."""
        return name in self._images

    def _input(self, name: str) -> None:
        shape = self._shapes[name]
        given = self.inputs[name] = self.tape.outside(self.plain(shape))
        if self.is_image(name):
            self.maps[name] = given  # images: the first convolution chooses their layout
            return
        self.maps[name] = self.tape.in_layout(given, self.map_layout(shape, self.precision))

        def backward() -> None:
            gradient = self.take(name)
            if gradient is not None:
                self.input_gradients[name] = self.tape.outside(self.plain(shape))
                self.tape.reorder(gradient.view, self.input_gradients[name])

        self.backward.append(backward)

    def _output(self, name: str) -> None:
        value = self.maps[name]
        shape = value.layout.shape
        layout = self.tape.layout(shape, Kind.F32, Tag.ACDB) if name in self.rows else self.plain(shape)
        self.outputs[name], self.output_gradients[name] = (self.tape.outside(layout) for _ in range(2))
        self.tape.reorder(value, self.outputs[name])

        def backward() -> None:
            target = self.tape.new(value.layout)
            self.tape.reorder(self.output_gradients[name], target)
            self.give(name, target)

        self.backward.append(backward)
