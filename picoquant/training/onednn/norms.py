"""Batch-norms on a tape."""

from __future__ import annotations

from picoquant.training.onednn.library import FIXED_STATISTICS, SCALE_AND_SHIFT, Arg, Propagation
from picoquant.training.onednn.lowering import Gradient, Lowering, Statistics
from picoquant.training.onednn.nodes import BatchNorm
from picoquant.training.onednn.tape import View, one_thread

_ONE_BLOCK = (
    16  # threads that share a block of channels wait for each other: worth it for so many times as many bytes
)


class Norm:
    """The primitives of one batch-norm; its result's memory is where its graph has it.

    Args:
        lowering: its tape and what it knows.
        node: what is written.

    Attributes:
        node: what is written.
        source: what is normalised.
        layout: of maps, with all channels of the last block: of part of a block the kernels take twice as long.
        channels: all that are in the layout.
        scale, mean, variance: `[channels]`.
        bytes: so large it is where threads are counted.
    """

    def __init__(self, lowering: Lowering, node: BatchNorm) -> None:
        self._lowering, self.node = lowering, node
        tape = lowering.tape
        self.source = lowering.as_kind(lowering.maps[node.x], lowering.kind_of_result(node))
        self._result = lowering.maps[node.out] = tape.new(self.source.layout)
        self.layout = lowering.whole_blocks(self.source.layout)
        self.channels = self.layout.shape[1]
        self._vector = lowering.plain((self.channels,))
        self.scale, self._shift = (lowering.vector(name, self._vector) for name in (node.scale, node.shift))
        if node.fixed:
            self.mean, self.variance = (
                lowering.vector(name, self._vector) for name in (node.mean, node.variance)
            )
        else:
            self.mean, self.variance = tape.new(self._vector), tape.new(self._vector)
            lowering.statistics.append(Statistics(self.mean, self.variance, node))
        self.bytes = self.layout.bytes // (_ONE_BLOCK if lowering.padded(1) == self.channels else 1)

    def zeros(self) -> View:
        """A tensor `[channels]` that has a place of its own, where zeros are."""
        return self._lowering.constant(self._vector, 0.0)

    def forward(self, fixed: bool) -> None:
        """Normalise by the statistics (`fixed`), or by the batch's, which become them."""
        arguments = {**self._kept(), Arg.SHIFT: self._shift, Arg.DST: View(self.layout, self._result.buffer)}
        with one_thread(self.bytes):
            self._lowering.tape.add(self._descriptor(fixed), arguments)

    def backward(self, gradient: Gradient, fixed: bool) -> tuple[View, View, View]:
        """Write the gradients of the source, scale and shift.

        Args:
            gradient: of the result.
            fixed: whether the statistics are constants; else they are the batch's.
        """
        lowering, library = self._lowering, self._lowering.library
        layout = self.layout
        target = gradient.view if gradient.ours else lowering.tape.new(self.source.layout)
        scale, shift = (
            lowering.vector_gradient(name, self._vector) for name in (self.node.scale, self.node.shift)
        )
        gradients = {
            Arg.DIFF_DST: View(layout, gradient.view.buffer),
            Arg.DIFF_SRC: View(layout, target.buffer),
            Arg.DIFF_SCALE: scale,
            Arg.DIFF_SHIFT: shift,
        }
        with one_thread(self.bytes):
            layouts = [layout.address] * 3
            made = library.backward("batch_normalization_backward", self._descriptor(fixed), Propagation.BACKWARD,
                                    *layouts, self.node.epsilon, _flags(fixed))  # fmt: skip
            lowering.tape.add(made, {**self._kept(), **gradients})
        return target, scale, shift

    def _kept(self) -> dict[Arg, View]:
        source = View(self.layout, self.source.buffer)
        return {Arg.SRC: source, Arg.MEAN: self.mean, Arg.VARIANCE: self.variance, Arg.SCALE: self.scale}

    def _descriptor(self, fixed: bool) -> int:
        library, address = self._lowering.library, self.layout.address
        return library.made("batch_normalization_forward_primitive_desc", library.engine, Propagation.FORWARD,
                            address, address, self.node.epsilon, _flags(fixed), library.attributes)  # fmt: skip


def _flags(fixed: bool) -> int:
    return SCALE_AND_SHIFT | (FIXED_STATISTICS if fixed else 0)


def batch_norm(lowering: Lowering, node: BatchNorm) -> None:
    """Write a batch-norm over the images of this process, or by fixed statistics."""
    norm = Norm(lowering, node)
    norm.forward(node.fixed)

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is not None:
            target, _, _ = norm.backward(gradient, node.fixed)
            lowering.give(node.x, target)

    lowering.backward.append(backward)
