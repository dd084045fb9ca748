"""A network's graph as the block of a program that `training.onednn.graph.read` reads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from picoquant.paddle_program.graph import Graph, Operator
from picoquant.training.onednn.graph import UnsupportedError


class _Variable(NamedTuple):
    shape: tuple[int, ...]


class _Operator:
    """An operator as `paddle.static` shows it."""

    def __init__(self, operator: Operator) -> None:
        self.type, self._attributes = operator.op_type, operator.attributes
        self._inputs, self._outputs = _slots(operator.inputs), _slots(operator.outputs)
        self.input_arg_names = [name for _, name in operator.inputs]
        self.output_arg_names = [name for _, name in operator.outputs]

    def input(self, slot: str) -> list[str]:
        return self._inputs.get(slot, [])

    def output(self, slot: str) -> list[str]:
        return self._outputs.get(slot, [])

    def attr(self, name: str) -> Any:
        if name not in self._attributes:
            raise UnsupportedError(f"the operator {self.type} without {name}")
        return self._attributes[name]


class Block:
    """The operators of a graph that some tensors need.

    Args:
        graph: a network.
        wanted: names of the tensors.
    """

    def __init__(self, graph: Graph, wanted: Collection[str]) -> None:
        self._graph = graph
        needed, used = set(wanted), []
        for operator in reversed(graph.operators):
            if needed & {name for _, name in operator.outputs}:
                used.append(operator)
                needed.update(name for _, name in operator.inputs)
        self.ops = [_Operator(operator) for operator in reversed(used)]

    def var(self, name: str) -> _Variable:
        """The variable of a name, whose shape has -1 for the number of images."""
        return _Variable(tuple(self._graph.tensor(name).shape or ()))


def behind_copies(graph: Graph, name: str) -> str:
    """The tensor that a tensor is a copy of, by operators that change nothing, or the tensor itself."""
    while True:
        operator = graph.producer(name)
        if operator is None or operator.op_type != "scale":
            return name
        if operator.attributes["scale"] != 1 or operator.attributes["bias"] != 0:
            return name
        name = operator.inputs[0][1]


def _slots(named: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for slot, name in named:
        found.setdefault(slot.rstrip("0123456789"), []).append(name)
    return found
