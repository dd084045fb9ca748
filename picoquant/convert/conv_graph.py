"""The convolutions of an ONNX graph: their weights, the affine operators after them, their connections.

PicoDet has no other weights than those of its convolutions and their batch-norms, so these and their
connections are enough to identify its layers; how an exporter writes the operators between them
(activations, shuffles, resizing) does not matter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import WeightsError

_NORMS = ("gamma", "beta", "mean", "variance")


@dataclass(frozen=True)
class Conv:
    """One convolution and the affine operators after it.

    Attributes:
        weight: `[out, in / groups, kh, kw]`.
        bias: `[out]`; zeros where there is none.
        norm: gamma, beta, mean, variance `[out]` of a batch-norm after it; None where there is none, or it
            was folded by the exporter.
        epsilon: of that batch-norm.
        attributes: strides, groups and dilations.
        output: name of the last of these operators' output tensor.
        sources: indices of the convolutions whose results reach this one without passing another
            convolution; -1 is the image.
    """

    weight: np.ndarray
    bias: np.ndarray
    norm: tuple[np.ndarray, ...] | None
    epsilon: float
    attributes: tuple[Any, ...]
    output: str
    sources: frozenset[int]


def read_convs(model: Any, path: Path) -> list[Conv]:
    """The convolutions of an `onnx.ModelProto`, in the order of its nodes.

    Raises: `WeightsError` when there are none, or when their weights are not float constants (quantised).
    """
    from picoquant.backends.onnx.graph import Graph

    graph = Graph(model)
    producers = {name: node for node in graph.nodes for name in node.output}
    users = defaultdict(list)
    for node in graph.nodes:
        for name in node.input:
            users[name].append(node)
    numbers: dict[str, int] = {}
    convs: list[Conv] = []
    for node in graph.nodes:
        if node.op_type != "Conv":
            continue
        weight = _constant(node.input[1], graph.constants, producers)
        if weight is None:
            producer = producers.get(node.input[1])
            what = f"made by {producer.op_type}" if producer is not None else "an input of the model"
            raise WeightsError(
                f"{path}: the weights of convolution {node.name or node.output[0]} are {what}; give a float "
                "export, as PaddleDetection's or `picoquant export`'s"
            )
        conv = Conv(weight, np.zeros(len(weight), np.float32), None, 0.0, _attributes(node), "", frozenset())
        if len(node.input) > 2 and node.input[2]:
            bias = _constant(node.input[2], graph.constants, producers)
            if bias is None:
                raise WeightsError(
                    f"{path}: the bias of convolution {node.name or node.output[0]} is no constant; give a float "
                    "export, as PaddleDetection's or `picoquant export`'s"
                )
            conv = replace(conv, bias=bias)
        conv = _with_affine(conv, node.output[0], graph, users, producers)
        numbers[node.output[0]] = len(convs)
        convs.append(replace(conv, sources=_sources(node.input[0], producers, numbers)))
    if not convs:
        raise WeightsError(f"{path}: has no convolutions with float weights, so it is no PicoDet")
    return convs


def _constant(name: str, constants: dict[str, np.ndarray], producers: dict[str, Any]) -> np.ndarray | None:
    """The float constant of tensor `name`, also through Identity, Reshape and Unsqueeze; None: not constant."""
    value = _resolved(name, constants, producers)
    return value if value is not None and value.dtype.kind == "f" else None


def _resolved(
    name: str, constants: dict[str, np.ndarray], producers: dict[str, Any], steps: int = 8
) -> np.ndarray | None:
    """The constant of tensor `name`, of any type, through a few operators that move no element."""
    node = producers.get(name)
    if node is None or name in constants:
        return constants.get(name)
    if steps == 0 or node.op_type not in ("Identity", "Reshape", "Unsqueeze"):
        return None
    found = [_resolved(item, constants, producers, steps - 1) for item in node.input]
    known = [item for item in found if item is not None]
    if not known or len(known) < len(found):
        return None
    value, *others = known
    if node.op_type == "Reshape":  # a bias, without the exporter's optimiser
        return _reshaped(value, [int(size) for size in np.ravel(others[0])])
    if node.op_type == "Unsqueeze":
        named = next((tuple(item.ints) for item in node.attribute if item.name == "axes"), ())
        axes = (
            tuple(int(axis) for axis in np.ravel(others[0])) if others else named
        )  # an input from opset 13 on
        rank = value.ndim + len(axes)
        if len({axis % rank for axis in axes if -rank <= axis < rank}) != len(axes):
            return None
        return np.expand_dims(value, axes)
    return value


def _reshaped(value: np.ndarray, shape: list[int]) -> np.ndarray | None:
    """`value` in an ONNX Reshape's shape: 0 keeps a side, one -1 is what is left; None where it does not fit."""
    sides = [
        value.shape[place] if side == 0 and place < value.ndim else side for place, side in enumerate(shape)
    ]
    known = math.prod(side for side in sides if side != -1)
    if sides.count(-1) > 1 or any(side < -1 for side in sides) or not known or value.size % known:
        return None
    if -1 not in sides and known != value.size:
        return None
    return value.reshape(sides)


def _attributes(node: Any) -> tuple[Any, ...]:
    """Strides, groups and dilations of a Conv node."""
    from onnx import helper

    found = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    return (
        tuple(found.get("strides") or (1, 1)),
        int(found.get("group", 1)),
        tuple(found.get("dilations") or (1, 1)),
    )


def _with_affine(conv: Conv, tensor: str, graph: Any, users: dict[str, list[Any]], producers: Any) -> Conv:
    """`conv` with the bias additions, scalings and the batch-norm that directly follow `tensor`."""
    channels = len(conv.weight)
    while conv.norm is None and len(users[tensor]) == 1 and tensor not in graph.outputs:
        node = users[tensor][0]
        if node.op_type == "BatchNormalization":
            values = tuple(_constant(name, graph.constants, producers) for name in node.input[1:5])
            norm = tuple(value for value in values if value is not None)
            if len(norm) < len(values):
                break
            epsilon = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
            conv = replace(conv, norm=norm, epsilon=float(epsilon))
        elif node.op_type in ("Add", "Mul"):
            other = next((name for name in node.input if name != tensor), tensor)
            value = _constant(other, graph.constants, producers)
            if value is None or value.shape not in ((1, channels, 1, 1), (channels, 1, 1)):
                break
            value = value.reshape(channels)
            if node.op_type == "Add":
                conv = replace(conv, bias=conv.bias + value)
            else:
                conv = replace(conv, weight=conv.weight * value[:, None, None, None], bias=conv.bias * value)
        else:
            break
        tensor = node.output[0]
    return replace(conv, output=tensor)


def _sources(tensor: str, producers: dict[str, Any], numbers: dict[str, int]) -> frozenset[int]:
    """Indices of the nearest convolutions before a tensor; paths through a Shape node do not count."""
    found, stack, seen = set(), [tensor], set()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in numbers:
            found.add(numbers[name])
            continue
        node = producers.get(name)
        if node is None:
            if name == tensor:
                found.add(-1)
        elif node.op_type != "Shape":
            stack.extend(node.input)
    return frozenset(found)


def colours(graphs: list[list[Conv]]) -> list[list[int]]:
    """A colour, which is an integer, for each convolution of each graph; equal neighbourhoods, equal colours.

    Colour refinement (Weisfeiler and Leman, 1968): a convolution's first colour stands for its weights' shape
    and its attributes. Every round assigns a new one that stands for its colour and those of its sources and
    users, until a round no longer increases the number of colours.
    """
    users_of_graphs = []
    for convs in graphs:
        users: list[list[int]] = [[] for _ in convs]
        for number, conv in enumerate(convs):
            for source in conv.sources - {-1}:
                users[source].append(number)
        users_of_graphs.append(users)
    table: dict[Any, int] = {}
    current = [
        [table.setdefault((conv.weight.shape, conv.attributes, -1 in conv.sources), len(table)) for conv in g]
        for g in graphs
    ]
    while True:
        count, table = len(table), {}
        current = [
            [
                table.setdefault(
                    (
                        colour[n],
                        tuple(sorted(colour[source] for source in conv.sources - {-1})),
                        tuple(sorted(colour[user] for user in users[n])),
                    ),
                    len(table),
                )
                for n, conv in enumerate(convs)
            ]
            for convs, users, colour in zip(graphs, users_of_graphs, current)
        ]
        if len(table) == count:
            return current
