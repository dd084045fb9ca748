"""Outputs of a network as its last convolutions leave them: maps `[1, C, H, W]`.

The raw export's outputs are `[1, H * W, C]`: each map reshaped and transposed. On VeriSilicon's NPUs a transpose is a
pass over the tensor, a slow one on some (docs/npu.md), and the host does it for nothing; so what is handed to them ends
in the maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Graph, Operator

_MOVES = ("scale", "assign", "reshape2", "transpose2")  # what gives values another order or shape
_OF_MAPS = 4  # axes


@dataclass(frozen=True)
class OutputMap:
    """What an output is made of.

    Attributes:
        name: of the map.
        left_out: the operators between it and the output.
    """

    name: str
    left_out: tuple[Operator, ...]


def output_maps(graph: Graph, params_of: Callable[[str], QuantParams | None]) -> dict[str, OutputMap]:
    """The maps of a network's outputs.

    Args:
        graph: of one image.
        params_of: what the integers of a tensor stand for; the operators between map and output change it nowhere.

    Returns: by the output's name; an output that is no map with a row for each cell is not in it.
    """
    found = {}
    for output in graph.outputs:
        name, passed = output, []
        while len(graph.tensor(name).shape or ()) != _OF_MAPS:
            op = graph.producer(name)
            if op is None or not _only_moves(op) or (name != output and _looked_at(graph, name)):
                break
            passed.append(op)
            name = op.inputs[0][1]
        names = [name, *(op.results[0] for op in passed)]
        if passed and _are_rows(graph, name, passed) and len({_step(params_of(one)) for one in names}) == 1:
            found[output] = OutputMap(name, tuple(passed))
    return found


def rows(values: np.ndarray) -> np.ndarray:
    """A map of one image `[C, H, W]` as `[H * W, C]`."""
    return np.ascontiguousarray(values.reshape(values.shape[0], -1).T)


def _looked_at(graph: Graph, name: str) -> bool:
    """Whether a tensor is needed by more than one."""
    return len(graph.users(name)) > 1 or name in graph.outputs


def _step(params: QuantParams | None) -> tuple[float, int] | None:
    """Scale and zero point of a tensor."""
    return None if params is None else (float(params.scale), int(params.zero_point))


def _only_moves(op: Operator) -> bool:
    if op.op_type == "scale" and (op.attributes.get("scale", 1.0), op.attributes.get("bias", 0.0)) != (
        1.0,
        0.0,
    ):
        return False
    return op.op_type in _MOVES and len(op.inputs) == 1


def _are_rows(graph: Graph, name: str, passed: list[Operator]) -> bool:
    """Whether operators, last first, bring a map into rows: tried on the numbers of its values."""
    shape = graph.tensor(name).shape or ()
    if len(shape) != _OF_MAPS or min(shape[1:]) < 1:
        return False
    numbers = np.arange(np.prod(shape[1:])).reshape(shape[1:])
    moved = numbers[None]
    for op in reversed(passed):
        after = graph.tensor(op.results[0]).shape or ()
        if op.op_type == "transpose2":
            moved = moved.transpose(op.attributes["axis"])
        elif op.op_type == "reshape2":
            if int(np.prod(after[1:])) != numbers.size:
                return False
            moved = moved.reshape(1, *after[1:])
    return np.array_equal(moved[0], rows(numbers))
