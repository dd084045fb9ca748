"""Which tensors of a network are uint8, and what their levels mean.

The levels are Paddle's: 127 up to the largest value, from zero point 0 for what cannot be below 0, to both
sides of zero point 128 otherwise; what uint8 holds beyond them, Paddle limits, and so does a Clip of bytes.
A network as narrow as PicoDet-S-NPU amplifies every other rounding: with 255 levels up to the largest value it
is a little quicker and as exact as before, but its mAP is another; without the Clips its mAP on bccd fell from
0.350 to 0.194 (docs/onnx.md). uint8 activations and int8 weights is the pair for which ONNX Runtime has its
fastest kernels on x86.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

from onnx import NodeProto

from picoquant.backends.onnx.graph import Graph, attribute

# Their result has the levels of their input: ONNX Runtime then moves bytes.
MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "MaxPool", "Resize")
_KEEP_SIGN = (*MOVES, "Concat", "Add", "Mul", "GlobalAveragePool", "AveragePool", "ReduceMean", "Identity")
_NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Sqrt", "Softmax", "Exp")
_MEANS = ("GlobalAveragePool", "AveragePool")
_SAME = 1.003  # of two largest values: less than half a level of 127
_WITH_WEIGHTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True)
class Levels:
    """uint8 levels of a tensor.

    Attributes:
        scale: value of one level where the tensor is made.
        zero_point: the level of 0.
        clipped: whether the tensor may leave the levels that Paddle has, see `ends`, so that it must be limited.
        unit: of the tensor; the value of a level where it is read is `scale * unit`.
    """

    scale: float
    zero_point: int
    clipped: bool = False
    unit: float = 1.0

    @property
    def ends(self) -> tuple[int, int]:
        """The lowest and the highest level that Paddle has: 127 on each side of the zero point, none below level 0."""
        return max(self.zero_point - 127, 0), self.zero_point + 127

    @property
    def read_scale(self) -> float:
        """Value of one level where the tensor is read."""
        return self.scale * self.unit

    @classmethod
    def up_to(cls, top: float, signed: bool, clipped: bool = True) -> Levels:
        """Levels of which 127 reach from 0 to `top`."""
        return cls(top / 127, 128 if signed else 0, clipped)

    @classmethod
    def saturating(cls, top: float, unit: float = 1.0) -> Levels:
        """Levels from 0 to `top`, all 255, so that nothing else need limit the tensor."""
        return cls(top / 255, 0, False, unit)


def levels_of(
    graph: Graph,
    measured: Mapping[str, float],
    learnt: Mapping[str, float],
    limits: Mapping[str, float],
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
        limits: largest values of the clips that were dropped, by tensor.
        units: of `hard_sigmoids`.
        quantised: names of the weights in levels.

    Returns: levels by tensor.
    """
    ranges = {**measured, **learnt}
    inner = _inner(graph, quantised)
    positive = set(limits) | set(units)
    found: dict[str, Levels] = {}
    for name in graph.inputs:
        if name in inner and name in ranges:
            found[name] = Levels.up_to(ranges[name], signed=True, clipped=False)
    for node in graph.nodes:
        if _cannot_be_negative(node, graph, positive):
            positive.update(node.output)
        weighted = node.op_type in _WITH_WEIGHTS
        if node.op_type == "Conv" and node.input[1] not in quantised:
            continue  # a layer in float gives floats
        for name in node.output:
            if name in inner or weighted:
                levels = _of_result(node, name, found, ranges, limits, units, signed=name not in positive)
                if levels is not None:
                    found[name] = levels
    _share_with_concat(graph, found, learnt)
    for node in graph.nodes:
        if node.op_type in ("Concat", *_MEANS) and node.output[0] in found:
            levels = found[node.output[0]]
            if all(_within(found.get(name), levels) for name in node.input):
                found[node.output[0]] = replace(levels, clipped=False)
    return found


def _share_with_concat(graph: Graph, found: dict[str, Levels], learnt: Container[str]) -> None:
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
            if private and found[name].zero_point == levels.zero_point:
                found.update({one: replace(levels, clipped=found[one].clipped) for one in chain})


def _within(source: Levels | None, result: Levels) -> bool:
    """Whether values in the levels of one tensor are within those of another, too."""
    same = source is not None and source.zero_point == result.zero_point
    return same and source.scale * source.unit < _SAME * result.scale


def _of_result(
    node: NodeProto,
    name: str,
    found: Mapping[str, Levels],
    ranges: Mapping[str, float],
    limits: Mapping[str, float],
    units: Mapping[str, float],
    signed: bool,
) -> Levels | None:
    if node.op_type in MOVES and attribute(node, "mode", b"nearest") in (b"nearest", "nearest"):
        source = found.get(node.input[0])
        return None if source is None else replace(source, clipped=False)
    if name in units:
        unit = units[name]
        if name not in ranges:
            return Levels.saturating(1.0 / unit, unit)
        return replace(Levels.up_to(min(ranges[name], 1.0) / unit, signed=False), unit=unit)
    top = min(ranges.get(name, math.inf), limits.get(name, math.inf))
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
