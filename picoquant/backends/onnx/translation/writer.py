"""The ONNX graph while it is written: its nodes, its constants, and what a Paddle operator reads and makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from picoquant.errors import ToolError
from picoquant.paddle_program.graph import Graph, Operator


class Writer:
    """Collects nodes.

    Args:
        graph: the Paddle program's.
        opset: that the nodes are for.

    Attributes:
        nodes: `NodeProto`s in an order that computes.
        constants: arrays by name.
    """

    def __init__(self, graph: Graph, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._made = 0

    def add(self, kind: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """A node with one result; returns its name, which is new where `output` is None."""
        output = output or self._new(kind)
        self.nodes.append(helper.make_node(kind, list(inputs), [output], output, **attributes))
        return output

    def add_many(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        """A node with several results."""
        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), outputs[0], **attributes))

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """Name of a new constant."""
        name = self._new("constant")
        self.constants[name] = np.asarray(value, np.dtype(dtype))
        return name

    def whole(self, *values: int) -> str:
        """Name of a new constant of int64 `[n]`."""
        return self.constant(list(values), "int64")

    def _new(self, kind: str) -> str:
        self._made += 1
        return f"onnx.{kind.lower()}.{self._made}"

    def squeeze(self, name: str, axes: Sequence[int], output: str | None = None, back: bool = False) -> str:
        """Axes of size 1 taken out, or with `back` put in."""
        kind = "Unsqueeze" if back else "Squeeze"
        if self.opset < 13:
            return self.add(kind, [name], output, axes=list(axes))
        return self.add(kind, [name, self.whole(*axes)], output)

    def numbers(self, op: Operator, *slots: str) -> str | None:
        """An int64 `[n]` of the first of some slots that has tensors: one tensor of numbers, or one each; else None."""
        for slot in slots:
            names = inputs_of(op, slot)
            if names:
                parts = [
                    self.add("Cast", [name], to=helper.np_dtype_to_tensor_dtype(np.dtype("int64")))
                    for name in names
                ]
                flat = [self.add("Reshape", [part, self.whole(-1)]) for part in parts]
                return flat[0] if len(flat) == 1 else self.add("Concat", flat, axis=0)
        return None

    def rank(self, name: str) -> int:
        """How many axes a tensor has.

        Raises: `ToolError` where that is not known.
        """
        return len(self.shape(name))

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor, -1 where one is not known.

        Raises: `ToolError` where even their number is not known.
        """
        if name in self.constants:
            return self.constants[name].shape
        shape = self.graph.tensor(name).shape
        if shape is None:
            raise ToolError(f"the shape of {name} is not in the program: export the model again")
        return shape

    def dtype(self, name: str) -> str:
        """A tensor's type of numbers."""
        return self.graph.tensor(name).dtype or "float32"


def inputs_of(op: Operator, slot: str) -> list[str]:
    """Names of the tensors of an input slot."""
    return [name for place, name in op.inputs if place.rstrip("0123456789") == slot]


def outputs_of(op: Operator, slot: str) -> list[str]:
    """Names of the tensors of an output slot."""
    return [name for place, name in op.outputs if place.rstrip("0123456789") == slot]
