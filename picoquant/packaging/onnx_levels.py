"""Which tensors of a network are uint8, and what their levels mean.

What cannot be below 0 has zero point 0 and 255 levels up to the largest value; anything else has zero point
128 and, as in Paddle, 127 levels to each side. uint8 activations and int8 weights is the pair for which ONNX
Runtime has its fastest kernels on x86, and zero point 0 lets the quantiser stand in for relu and relu6.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass

from onnx import NodeProto

from picoquant.packaging.onnx_graph import Graph, attribute

# Their result has the levels of their input: ONNX Runtime then moves bytes.
MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "MaxPool", "Resize")
_KEEP_SIGN = (*MOVES, "Concat", "Add", "Mul", "GlobalAveragePool", "AveragePool", "ReduceMean", "Identity")
_NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Sqrt", "Softmax", "Exp")
_WITH_WEIGHTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True)
class Levels:
    """uint8 levels of a tensor.

    Attributes:
        scale: value of one level where the tensor is made.
        zero_point: the level of 0.
        unit: of the tensor; the value of a level where it is read is `scale * unit`.
    """

    scale: float
    zero_point: int
    unit: float = 1.0

    @property
    def read_scale(self) -> float:
        """Value of one level where the tensor is read."""
        return self.scale * self.unit

    @classmethod
    def up_to(cls, top: float, signed: bool, unit: float = 1.0) -> Levels:
        """Levels that reach from 0 (or `-top`) to `top`."""
        return cls(top / 127, 128, unit) if signed else cls(top / 255, 0, unit)


def levels_of(
    graph: Graph,
    measured: Mapping[str, float],
    learnt: Mapping[str, float],
    limited: Mapping[str, float],
    units: Mapping[str, float],
    quantised: Container[str],
) -> dict[str, Levels]:
    """Choose the levels of every tensor on the way to an operator with weights, and of its result.

    What follows the last operators with weights is left to float: eight bits of a score hold nothing of
    the low ones.

    Args:
        graph: simplified.
        measured: largest absolute values.
        learnt: those of tensors that Paddle quantises, which count first; a tensor in neither stays float.
        limited: the clips that were dropped, by tensor: the largest value.
        units: of `hard_sigmoids`.
        quantised: names of the weights in levels.

    Returns: levels by tensor.
    """
    ranges = {**measured, **learnt}
    inner = _inner(graph, quantised)
    positive = set(limited) | set(units)
    found: dict[str, Levels] = {}
    for name in graph.inputs:
        if name in inner and name in ranges:
            found[name] = Levels.up_to(ranges[name], signed=True)
    for node in graph.nodes:
        if _cannot_be_negative(node, graph, positive):
            positive.update(node.output)
        for name in node.output:
            if name in inner or node.op_type in _WITH_WEIGHTS:
                levels = _of_result(node, name, found, ranges, limited, units, signed=name not in positive)
                if levels is not None:
                    found[name] = levels
    _share_with_concat(graph, found, learnt, limited)
    return found


def _share_with_concat(
    graph: Graph, found: dict[str, Levels], learnt: Container[str], limited: Mapping[str, float]
) -> None:
    """Give what only a Concat takes the levels of its result, as Paddle rounds it: bytes are then moved."""
    for concat in [node for node in reversed(graph.nodes) if node.op_type == "Concat"]:
        levels = found.get(concat.output[0])
        for name in concat.input if levels is not None else ():
            chain = [name]
            while (maker := graph.producer(chain[-1])) is not None and maker.op_type in MOVES:
                chain.append(maker.input[0])
            private = all(
                len(graph.users(one)) == 1 and one in found and one not in learnt and one not in graph.outputs
                for one in chain
            )
            top = 255 * levels.scale
            fits = top <= limited.get(chain[-1], top) * (1 + 1 / 255)
            if private and fits and found[name].zero_point == levels.zero_point:
                found.update(dict.fromkeys(chain, levels))


def _of_result(
    node: NodeProto,
    name: str,
    found: Mapping[str, Levels],
    ranges: Mapping[str, float],
    limited: Mapping[str, float],
    units: Mapping[str, float],
    signed: bool,
) -> Levels | None:
    if node.op_type in MOVES and attribute(node, "mode", b"nearest") in (b"nearest", "nearest"):
        return found.get(node.input[0])
    if name in units:
        return Levels.up_to(1.0 / units[name], signed=False, unit=units[name])
    top = ranges.get(name, limited.get(name, 0.0))
    top = min(top, limited.get(name, top))
    return Levels.up_to(top, signed) if 0 < top < math.inf else None


def _inner(graph: Graph, quantised: Container[str]) -> set[str]:
    """Tensors from which an operator with quantised weights can be reached."""
    inner: set[str] = set()
    for node in reversed(graph.nodes):
        weighted = any(name in quantised for name in node.input)
        if weighted or any(name in inner for name in node.output):
            inner.update(name for name in node.input if name and name not in graph.constants)
    return inner


def _cannot_be_negative(node: NodeProto, graph: Graph, positive: set[str]) -> bool:
    if node.op_type in _NOT_NEGATIVE:
        return True
    if node.op_type == "Clip":
        lowest = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
        return lowest is not None and float(lowest.reshape(())) >= 0
    if node.op_type not in _KEEP_SIGN:
        return False
    several = node.op_type in ("Concat", "Add", "Mul")
    return all(
        (graph.constants[name] >= 0).all() if name in graph.constants else name in positive
        for name in (node.input if several else node.input[:1])
    )
