"""A method of a layer that runs, with its gradients, on a tape of oneDNN's primitives.

Paddle keeps the parameters, the update, and the losses; what lies between the images and the losses is one call.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from picoquant.errors import PicoquantError
from picoquant.training.graphs.openmp import awake
from picoquant.training.joint_batch_norm.statistics import Processes
from picoquant.training.onednn.graph import Graph
from picoquant.training.onednn.joint_norms import joint_batch_norms, told_together
from picoquant.training.onednn.library import Kind, Library, Tag
from picoquant.training.onednn.lowering import Lowering
from picoquant.training.onednn.maps import NODES
from picoquant.training.onednn.nodes import BatchNorm
from picoquant.training.onednn.tape import Arena

_AWAKE = 1  # milliseconds that threads wait for the next primitive before they sleep


class Part:
    """A network, or a part of one, for inputs of any size.

    Args:
        library: oneDNN.
        graph: what is computed.
        parameters: Paddle's tensors, by the graph's names.
        precision: of the feature maps.
        block: their layout.
        group: all processes, where batch-norms are over the images of all.
        read: what is computed with in the place of parameters of these names, whose gradients are those of it; may
            change from call to call.
    """

    def __init__(
        self,
        library: Library,
        graph: Graph,
        parameters: Mapping[str, Any],
        precision: Kind,
        block: Tag,
        group: Processes | None = None,
        read: Mapping[str, Any] | None = None,
    ) -> None:
        self._library, self._parameters, self._group = library, parameters, group
        self._read = {} if read is None else read
        self.graph = graph if group is None else told_together(graph)
        self._precision, self._block = precision, block
        self._tapes: dict[tuple[Any, ...], Lowering] = {}
        self._arena = Arena()
        self._turn = 0  # of the arena: what a forward pass has left there

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The outputs, `[N, C, H, W]` or `[N, H * W, C]`, of inputs `[N, C, H, W]`, all in 32-bit floats."""
        trained = {name: one for name, one in self._parameters.items() if not one.stop_gradient}
        call = _Call(self, [not one.stop_gradient for one in inputs], trained)
        found = _Run.apply(call, *inputs, *trained.values())
        return list(found) if isinstance(found, (list, tuple)) else [found]

    def tape_of(
        self, shapes: Sequence[tuple[int, ...]], wanted: Sequence[bool], trained: Sequence[str]
    ) -> Lowering:
        """The tape for inputs of these shapes, written when they are first seen.

        Args:
            shapes: of the inputs.
            wanted: for each whether its gradient is.
            trained: names of the parameters whose gradients are.
        """
        key = (*shapes, *wanted, *trained)
        found = self._tapes.get(key)
        if found is None:
            sizes = {name: tuple(one.shape) for name, one in self._parameters.items()}
            found = Lowering(
                self._library, self.graph, shapes, wanted, sizes, set(trained), self._precision, self._block
            )
            found.write(NODES, self._together)
            self._tapes[key] = found
        return found

    def _together(self, lowering: Lowering, nodes: Sequence[BatchNorm]) -> None:
        assert self._group is not None
        joint_batch_norms(lowering, nodes, self._group)

    def forward(self, tape: Lowering, inputs: Sequence[Any]) -> tuple[list[Any], int]:
        """The outputs, and the turn that `backward` names."""
        for name, one in zip(self.graph.inputs, inputs):
            tape.tape.move(tape.inputs[name], _address(one))
        for name, view in tape.values.items():
            tape.tape.move(view, _address(self._value(name)))
        outputs = []
        for name in self.graph.outputs:
            view = tape.outputs[name]
            outputs.append(paddle.empty(_shape_of(tape, name), "float32"))
            tape.tape.move(view, _address(outputs[-1]))
        for name, array in tape.copied_in.items():
            stored = self._value(name)
            array[: stored.size] = _array(_address(stored), stored.size)
        base = self._arena.at_least(tape.tape.bytes)
        self._turn += 1
        with awake(_AWAKE):
            tape.tape.forward_pass(base)
        self._follow(tape, base)
        if not self._finite(tape):
            for one in outputs:
                _array(_address(one), one.size)[:] = np.nan
        return outputs, self._turn

    def _value(self, name: str) -> Any:
        return self._read[name] if name in self._read else self._parameters[name]

    def _finite(self, tape: Lowering) -> bool:
        """Whether all parameters and statistics are finite numbers.

        oneDNN's activations turn what is no number into 0 or 6: a network that has diverged would have outputs like
        any other.
        """
        statistics = [name for one in tape.statistics for name in (one.node.mean, one.node.variance)]
        stored = (self._value(name) for name in (*tape.values, *tape.copied_in, *statistics))
        return all(math.isfinite(_array(_address(one), one.size).sum(dtype=np.float64)) for one in stored)

    def _follow(self, tape: Lowering, base: int) -> None:
        """Let running statistics follow those of the batch, as Paddle's batch-norm does."""
        for one in tape.statistics:
            for name, view in ((one.node.mean, one.mean), (one.node.variance, one.variance)):
                stored = self._parameters[name]
                running = _array(_address(stored), stored.size)
                found = _array(tape.tape.address_of(view, base), stored.size)
                momentum = np.float32(one.node.momentum)
                running *= momentum
                running += (1 - momentum) * found

    def backward(
        self, tape: Lowering, turn: int, gradients: Sequence[Any], names: Sequence[str]
    ) -> tuple[list[Any], list[Any]]:
        """Gradients of the inputs and of the parameters of these names; None: not wanted, or without influence."""
        if turn != self._turn:
            raise PicoquantError("gradients of a step can be computed only until the next one begins")
        for name, one in zip(self.graph.outputs, gradients):
            tape.tape.move(tape.output_gradients[name], _address(one))
        found = {
            name: paddle.empty(self._parameters[name].shape, "float32")
            for name in (*tape.gradients, *tape.copied_out)
        }
        for name, view in tape.gradients.items():
            tape.tape.move(view, _address(found[name]))
        passed = {
            name: paddle.empty(view.layout.shape, "float32") for name, view in tape.input_gradients.items()
        }
        for name, one in passed.items():
            tape.tape.move(tape.input_gradients[name], _address(one))
        with awake(_AWAKE):
            tape.tape.backward_pass(self._arena.at_least(tape.tape.bytes))
        for name, array in tape.copied_out.items():
            _array(_address(found[name]), found[name].size)[:] = array[: found[name].size]
        return [passed.get(name) for name in self.graph.inputs], [found.get(name) for name in names]


class _Call:
    """What Paddle carries from a forward pass to its backward pass; no tensor itself."""

    def __init__(self, part: Part, wanted: Sequence[bool], trained: Mapping[str, Any]) -> None:
        self.part, self.wanted, self.names = part, list(wanted), list(trained)
        self.tape: Lowering | None = None
        self.turn = 0
        self.kept: tuple[Any, ...] = ()  # the backward pass reads some of what the forward pass was given


class _Run(PyLayer):
    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Any) -> Any:
        inputs = call.kept = tensors[: len(call.wanted)]
        call.tape = call.part.tape_of([tuple(one.shape) for one in inputs], call.wanted, call.names)
        outputs, call.turn = call.part.forward(call.tape, inputs)
        ctx.call = call
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        call = ctx.call
        passed, found = call.part.backward(call.tape, call.turn, gradients, call.names)
        return (*passed, *found)


def _shape_of(tape: Lowering, name: str) -> tuple[int, ...]:
    """Shape of an output as Paddle sees it."""
    count, channels, height, width = tape.outputs[name].layout.shape
    return (count, height * width, channels) if name in tape.rows else (count, channels, height, width)


def _address(tensor: Any) -> int:
    return int(tensor.data_ptr())


def _array(address: int, size: int) -> np.ndarray:
    """So many 32-bit floats at an address, not copied."""
    return np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))
