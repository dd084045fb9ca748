"""Hard sigmoids folded into the convolutions before them: TFLite has no such operator.

`clip(slope * x + offset, 0, 1)` of a convolution's result is the convolution with its scales times the slope, the
offset added to its bias, and a ReLU; the largest integer of the result stands for 1 or less, so that saturation is the
upper end. The result is rounded once, not twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from picoquant.int8.network import Int8Network
from picoquant.int8.passes.int32_bias import quantise_bias
from picoquant.int8.passes.tensors import quantised_tensors
from picoquant.paddle_program.graph import Operator, read_graph
from picoquant.paddle_program.layers import FusedLayer

_STEPS = 127  # whose value a tensor's range is


def slope_and_offset(op: Operator) -> tuple[float, float]:
    """Of a hard sigmoid, with Paddle's defaults."""
    return op.attributes.get("slope", 0.2), op.attributes.get("offset", 0.5)


def fold_hard_sigmoids(network: Int8Network) -> Int8Network:
    """The network with each hard sigmoid that alone reads a convolution with a bias as that convolution's ReLU.

    Args:
        network: batch-norms folded; stays as it is. One whose tensors lack a range is returned unchanged there.
    """
    found = {name: op for layer in network.layers.values() for name, op in _foldable(network, layer)}
    if not found:
        return network
    program = type(network.program).FromString(network.program.SerializeToString())
    results = {op.name for op in found.values()}
    for op in program.blocks[0].ops:
        if op.type == "hard_sigmoid" and _result(op) in results:
            op.type = "relu"
            del op.attrs[:]
    values, operators, ranges = dict(network.values), [], dict(network.ranges)
    for operator in network.operators:
        hard = found.get(operator.output)
        if hard is not None:
            slope, offset = slope_and_offset(hard)
            high = network.tensors[hard.name].params.high
            ranges[hard.name] = min(ranges[hard.name], _STEPS / high)
            input_scale = network.tensors[operator.activation].params.scale
            bias = operator.bias_integers * (operator.scales * input_scale) * slope + offset
            params = replace(operator.params, scale=operator.params.scale * slope)
            scaled = replace(operator, params=params, bias_integers=None)
            result_scale = ranges[hard.name] / _STEPS
            operator = quantise_bias(scaled, bias, input_scale, result_scale)
            step = np.broadcast_to(operator.scales * input_scale, bias.shape)
            values[operator.bias] = (operator.bias_integers * step).astype(np.float32)
            values[operator.weight] = operator.value
        operators.append(operator)
    tensors = quantised_tensors(
        read_graph(program), values, operators, ranges, zero_points=network.zero_points
    )
    return Int8Network(program, tensors, tuple(operators), values, network.ignored)


def _foldable(network: Int8Network, layer: FusedLayer) -> list[tuple[str, Operator]]:
    """The convolution's result and the hard sigmoid, where it can be folded."""
    graph, operator = network.graph, network.by_output.get(layer.conv.name)
    users = graph.users(layer.output)
    if operator is None or operator.bias_integers is None or layer.activation is not None:
        return []
    shared = any(len(graph.users(name)) > 1 for name in (operator.weight, operator.bias))
    alone = len(users) == 1 and users[0].op_type == "hard_sigmoid" and layer.output not in graph.outputs
    if not alone or shared or slope_and_offset(users[0])[0] <= 0:
        return []
    ranged = all(network.tensors[name].params for name in (operator.activation, users[0].name))
    return [(layer.conv.name, users[0])] if ranged else []


def _result(op: Any) -> str:
    return next(name for slot in op.outputs for name in slot.arguments)
