"""An INT8 network as plain ONNX: what compilers of other vendors take.

Every tensor that has a range is quantised and scaled back, weights are int8 with a scale for each channel, biases
int32, and there is nothing else: opset 13, no operator but those of the float network. A tensor's integers are those of
an NPU's simulation: the network's scale and zero point, all of the type's integers in use (where the network is
symmetric, 127 steps up to the largest value on each side of the zero point). Compilers know this form as QDQ; ONNX
Runtime's own quantiser writes it, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from picoquant.backends.onnx.activations import split_hard_swish
from picoquant.backends.onnx.graph import Graph, Node, attribute, make_node
from picoquant.backends.onnx.inserter import replace_input, round_tensor, store_constant, store_integers
from picoquant.backends.onnx.paddle2onnx import OPSET
from picoquant.backends.onnx.qdq import checked, computing_nodes, float_graph
from picoquant.int8.network import Int8Network, QuantizedOperator

NUMBERS = ("uint8", "int8")
# Later opsets let these take more types, and change nothing else (onnx/docs/Changelog.md).
_AS_BEFORE = ("Add", "Sub", "Mul", "Div", "Relu", "QuantizeLinear", "DequantizeLinear")
_WITH_CONSTANTS = ("Add", "Mul")
_SMALLEST = 1e-12  # scale of a channel that is all zero; ONNX wants scales above 0
_FROM_ZERO = "Sigmoid"  # in uint8 it has no integers below zero, as NPUs hold it


def make_plain_onnx(network: Int8Network, numbers: str = "uint8", limited: bool = False) -> Any:
    """Make the ONNX model.

    Args:
        network: for one image.
        numbers: integers of activations, `uint8` with zero point 128 or `int8` with 0; of tensors that are not
            symmetric their own, and 128 more in `uint8`.
        limited: never use the type's lowest integer, as Paddle does, by a Clip before the QuantizeLinear of what can
            be negative: the integers are then those of the INT8 Paddle model.

    Returns: a checked `onnx.ModelProto`; its tensors have Paddle's names.

    Raises: `ToolError` when paddle2onnx refuses the network or has left out a quantised operator.
    """
    graph = float_graph(network)
    split_hard_swish(graph)
    for weight in {operator.weight: None for operator in network.operators}:
        users = [operator for operator in network.operators if operator.weight == weight]
        for user, node, operator in computing_nodes(graph, weight, users):
            _store_weight(graph, user, node, operator, network)
    made = {*graph.inputs, *(name for node in graph.nodes for name in node.output)}
    held = [name for name in network.held if name in made and name in network.ranges]
    _store_constants(graph, held, numbers)
    for name in held:
        value, maker, tensor = network.ranges[name], graph.producer(name), network.tensors[name]
        zero = tensor.params.zero_point
        if tensor.params.is_symmetric:
            if limited and maker is not None and not tensor.non_negative:
                _limit(graph, name, maker, value)
            if maker is not None and maker.op_type == _FROM_ZERO and numbers == "uint8":
                zero = -128
        stored = np.uint8(zero + 128) if numbers == "uint8" else np.int8(zero)
        round_tensor(graph, name, value / 127, stored)
    _lower_opset(graph)
    return checked(graph)


def _lower_opset(graph: Graph) -> None:
    """Say opset 13 where only operators that are gone now needed a later one; the checker looks at the others."""
    for opset in graph.model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            continue
        if all(_is_as_before(node, opset.version) for node in graph.nodes):
            opset.version = OPSET
            for node in graph.nodes:
                if node.op_type == "Reshape":
                    node.attribute = []


def _is_as_before(node: Node, opset: int) -> bool:
    """Whether an operator of a later opset is the same in opset 13, at least for the types of an INT8 network."""
    if node.op_type == "Reshape":
        return attribute(node, "allowzero", 0) == 0
    return node.op_type in _AS_BEFORE or onnx.defs.get_schema(node.op_type, opset).since_version <= OPSET


def _store_weight(
    graph: Graph, user: Node, node: Node, operator: QuantizedOperator, network: Int8Network
) -> None:
    """Store the integers of an operator's weight and bias.

    Args:
        graph: changed in place.
        user: takes the weight.
        node: multiplies by it, `user` itself or behind it.
        operator: says the integers.
        network: of it.
    """
    scales = np.maximum(operator.scales, _SMALLEST)
    if node.op_type == "Conv" and len(node.input) > 2:
        step = network.tensors[operator.activation].params.scale * scales
        integers = operator.bias_integers
        if integers is None:
            integers = np.rint(graph.constants[node.input[2]].astype(np.float64) / step)
        steps = np.broadcast_to(step, integers.shape)
        bias = store_integers(graph, node, f"{node.name}.bias", integers.astype(np.int32), steps, 0)
        node.input[2] = bias
    axis = operator.params.axis if len(scales) > 1 else -1
    name = store_integers(graph, user, f"{node.name}.weight", operator.integers, scales, axis)
    replace_input(user, operator.weight, name)


def _store_constants(graph: Graph, held: Sequence[str], numbers: str) -> None:
    """Store what is added to or multiplied with quantised tensors as integers with a scale of its own."""
    rounded = set(held)
    for node in list(graph.nodes):
        if node.op_type not in _WITH_CONSTANTS or rounded.isdisjoint(node.output):
            continue
        for name in [name for name in node.input if name in graph.constants]:
            value = graph.constants[name].astype(np.float64)
            scale = float(np.abs(value).max() or 1.0) / 127
            zero = np.uint8(128) if numbers == "uint8" else np.int8(0)
            integers = np.clip(np.rint(value / np.float32(scale)), -127, 127) + int(zero)
            store_constant(graph, node, name, integers, scale, zero)


def _limit(graph: Graph, name: str, maker: Node, absmax: float) -> None:
    """Clip a tensor to its range where it is made."""
    ends = [f"{name}.low", f"{name}.high"]
    graph.constants.update(zip(ends, (np.float32(-absmax), np.float32(absmax))))
    source = f"{name}.unlimited"
    maker.output[list(maker.output).index(name)] = source
    maker.name = source if maker.name == name else maker.name
    graph.insert_after(maker, make_node("Clip", [source, *ends], [name], name))
