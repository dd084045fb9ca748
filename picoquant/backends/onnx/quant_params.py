"""Which tensors of an ONNX graph are uint8, and what their integers stand for.

The steps are Paddle's: 127 up to the largest value, from zero point 0 for what cannot be below 0, to both
sides of zero point 128 otherwise; what uint8 holds beyond them, Paddle limits, and so does a Clip of bytes.
A network as narrow as PicoDet-S-NPU amplifies every other rounding: with 255 steps up to the largest value it
is a little quicker and as exact as before, but its mAP is another; without the Clips its mAP on bccd fell from
0.350 to 0.194 (docs/onnx.md). A tensor that the network gives a zero point has that one (128 more, as it is
unsigned), all 256 integers, and no Clip but for an activation's ends. uint8 activations and int8 weights is the pair
for which ONNX Runtime has its fastest kernels on x86.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

import numpy as np

from picoquant.backends.onnx.graph import Graph, Node, attribute
from picoquant.int8.network import Int8Network
from picoquant.int8.quant_params import QuantParams

# Their result has the levels of their input: ONNX Runtime then moves bytes.
MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "MaxPool", "Resize")
_MEANS = ("GlobalAveragePool", "AveragePool")
_SAME = 1.003  # of two largest values: less than half a level of 127
_WITH_WEIGHTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


@dataclass(frozen=True)
class UInt8Params:
    """How a tensor is held in uint8.

    Attributes:
        scale: value of one step where the tensor is made.
        zero_point: the integer that stands for 0.
        clipped: whether the tensor may leave the integers that Paddle has, see `ends`, so that it must be limited.
        unit: of the tensor; the value of a step where it is read is `scale * unit`.
        limits: the lowest and the highest integer that it may have; None: those that Paddle has.
    """

    scale: float
    zero_point: int
    clipped: bool = False
    unit: float = 1.0
    limits: tuple[int, int] | None = None

    @property
    def ends(self) -> tuple[int, int]:
        """The lowest and the highest integer: `limits`, else Paddle's 127 on each side of the zero point from 0 on."""
        return self.limits or (max(self.zero_point - 127, 0), self.zero_point + 127)

    @property
    def read_scale(self) -> float:
        """Value of one step where the tensor is read."""
        return self.scale * self.unit

    @classmethod
    def up_to(cls, absmax: float, signed: bool, clipped: bool = True) -> UInt8Params:
        """127 steps reach from 0 to `absmax`."""
        return cls(absmax / 127, 128 if signed else 0, clipped)

    @classmethod
    def of_network(cls, params: QuantParams, low: float = -math.inf, high: float = math.inf) -> UInt8Params:
        """A network's own scale and zero point, for one that is not symmetric.

        Args:
            params: of the tensor.
            low, high: the ends of the activation that is left to it.
        """
        zero = params.zero_point + 128
        ends = tuple(
            zero + int(np.clip(np.rint(end / params.scale), -zero, 255 - zero)) for end in (low, high)
        )
        return cls(params.scale, zero, ends != (0, 255), limits=ends)

    @classmethod
    def saturating(cls, absmax: float, unit: float = 1.0) -> UInt8Params:
        """255 steps reach from 0 to `absmax`, so that nothing else need limit the tensor."""
        return cls(absmax / 255, 0, False, unit)


def moves(node: Node) -> bool:
    """Whether a node's result has the levels of its first input."""
    return node.op_type in MOVES and attribute(node, "mode", b"nearest") in (b"nearest", "nearest")


def uint8_params(
    graph: Graph,
    network: Int8Network,
    limits: Mapping[str, float],
    units: Mapping[str, float],
    quantised: Container[str],
) -> dict[str, UInt8Params]:
    """How every tensor is held on the way to an operator with weights, and its result.

    What follows the last operators with weights is left to float: eight bits of a score hold nothing of
    the low ones.

    Args:
        graph: simplified.
        network: says the range of each tensor and which are never negative; a tensor without range stays float.
        limits: largest values of the clips that were dropped, by tensor.
        units: of `hard_sigmoids`.
        quantised: names of the weights in INT8.

    Returns: by tensor.
    """
    ranges = network.ranges
    inner = _inner(graph, quantised)
    positive = {name for name, tensor in network.tensors.items() if tensor.non_negative}
    positive |= set(limits) | set(units)
    found: dict[str, UInt8Params] = {}
    own = {name: network.tensors[name].params for name in network.zero_points}
    for name in graph.inputs:
        if name in inner and name in ranges:
            found[name] = UInt8Params.up_to(ranges[name], signed=True, clipped=False)
            if name in own:
                found[name] = UInt8Params.of_network(own[name])
    for node in graph.nodes:
        if node.op_type in MOVES and node.input[0] in positive:
            positive.update(node.output)
        weighted = node.op_type in _WITH_WEIGHTS
        if node.op_type == "Conv" and node.input[1] not in quantised:
            continue  # a layer in float has floats as its result
        for name in node.output:
            if name in inner or weighted:
                if name in own and not moves(node):
                    params = _of_own(own[name], name, limits, units)
                else:
                    params = _of_result(node, name, found, ranges, limits, units, signed=name not in positive)
                if params is not None:
                    found[name] = params
    _share_with_concat(graph, found, network.operator_inputs)
    for node in graph.nodes:
        if node.op_type in ("Concat", *_MEANS) and node.output[0] in found:
            params = found[node.output[0]]
            if params.limits is None and all(_within(found.get(name), params) for name in node.input):
                found[node.output[0]] = replace(params, clipped=False)
    return found


def _share_with_concat(graph: Graph, found: dict[str, UInt8Params], operator_inputs: Container[str]) -> None:
    """Give what only a Concat takes the params of its result, as Paddle rounds it: bytes are then moved."""
    for concat in [node for node in reversed(graph.nodes) if node.op_type == "Concat"]:
        params = found.get(concat.output[0])
        for name in concat.input if params is not None else ():
            chain = [name]
            while (maker := graph.producer(chain[-1])) is not None and maker.op_type in MOVES:
                chain.append(maker.input[0])
            private = all(
                len(graph.users(one)) == 1
                and one in found
                and one not in operator_inputs
                and one not in graph.outputs
                for one in chain
            )
            if private and found[name].zero_point == params.zero_point:
                found.update(
                    {
                        one: replace(params, clipped=found[one].clipped, limits=found[one].limits)
                        for one in chain
                    }
                )


def _of_own(
    params: QuantParams, name: str, limits: Mapping[str, float], units: Mapping[str, float]
) -> UInt8Params:
    """How a tensor with a zero point is held, with the ends of what was left to it: a ReLU, a hard sigmoid."""
    if name in units:
        held = UInt8Params.of_network(params, 0.0, 1.0)
        return replace(held, scale=held.scale / units[name], unit=units[name])
    return (
        UInt8Params.of_network(params, 0.0, limits[name])
        if name in limits
        else UInt8Params.of_network(params)
    )


def _within(source: UInt8Params | None, result: UInt8Params) -> bool:
    """Whether values in the params of one tensor are within those of another, too."""
    same = source is not None and source.zero_point == result.zero_point
    return same and source.scale * source.unit < _SAME * result.scale


def _of_result(
    node: Node,
    name: str,
    found: Mapping[str, UInt8Params],
    ranges: Mapping[str, float],
    limits: Mapping[str, float],
    units: Mapping[str, float],
    signed: bool,
) -> UInt8Params | None:
    if moves(node):
        source = found.get(node.input[0])
        return None if source is None else replace(source, clipped=False)
    if name in units:
        unit = units[name]
        if name not in ranges:
            return UInt8Params.saturating(1.0 / unit, unit)
        return replace(UInt8Params.up_to(min(ranges[name], 1.0) / unit, signed=False), unit=unit)
    top = min(ranges.get(name, math.inf), limits.get(name, math.inf))
    return UInt8Params.up_to(top, signed) if 0 < top < math.inf else None


def _inner(graph: Graph, quantised: Container[str]) -> set[str]:
    """Tensors from which an operator with quantised weights can be reached."""
    inner: set[str] = set()
    for node in reversed(graph.nodes):
        weighted = any(name in quantised for name in node.input)
        if weighted or any(name in inner for name in node.output):
            inner.update(name for name in node.input if name and name not in graph.constants)
    return inner
