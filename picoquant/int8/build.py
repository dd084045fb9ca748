"""Make an `Int8Network` of a float model, the ranges that calibration or training found, and what runs in INT8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from picoquant.int8.network import Int8Network, QuantizedOperator
from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.passes.fold import fold
from picoquant.int8.passes.int32_bias import quantise_bias
from picoquant.int8.passes.tensors import quantised_tensors
from picoquant.int8.passes.weights import QuantizedWeight, quantise_operator
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.graph import Graph, read_graph
from picoquant.paddle_program.layers import BATCH_NORM, fused_layers
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program

# Range of a tensor that is 0 throughout, which is 0 in INT8 whatever its range: one that all runtimes take.
_OF_ZEROS = 1.0


@dataclass(frozen=True)
class Int8Source:
    """What an INT8 network is made from.

    Attributes:
        folder: the FP32 model's.
        weights: trained values, by variable.
        ranges: of each activation, the value of 127 steps: the largest absolute value where it is symmetric.
        operators: what runs in INT8.
        settings: numbers of bits.
        ignored: results of operators that are marked as left in float on purpose.
        zero_points: of the activations that are not symmetric, signed.
    """

    folder: Path
    weights: Mapping[str, np.ndarray]
    ranges: Mapping[str, float]
    operators: tuple[QuantizableOperator, ...]
    settings: QuantAwareSettings
    ignored: frozenset[str] = frozenset()
    zero_points: Mapping[str, int] = field(default_factory=dict)

    def params(self, name: str) -> QuantParams:
        """The quantisation of an activation that has a range."""
        bits = self.settings.activation_bits
        return QuantParams.of_range(self.ranges[name], bits, self.zero_points.get(name))


def build_network(source: Int8Source) -> Int8Network:
    """Quantise a float network; batch-norms that were not folded before stay in its program.

    Raises: `WeightsError` when the files of the FP32 model cannot be read.
    """
    above_zero = {name: value if value > 0 else _OF_ZEROS for name, value in source.ranges.items()}
    source = replace(source, ranges=above_zero)
    program = read_program(source.folder / MODEL)
    values = read_params(program, source.folder / PARAMS)
    values.update({name: value for name, value in source.weights.items() if name in values})
    graph = read_graph(program)
    bits = source.settings.weight_bits, source.settings.activation_bits
    weights = {
        operator.output: quantise_operator(graph, values, operator, source.ranges, bits, source.zero_points)
        for operator in source.operators
    }
    # As float32, which files hold, so that the network is the one that is read from them.
    ranges = {name: float(np.float32(value)) for name, value in source.ranges.items()}
    operators = tuple(
        _operator(operator, weights[operator.output], ranges, bits) for operator in source.operators
    )
    before = {
        name: values[name]
        for operator in operators
        for name in (operator.weight, operator.bias)
        if name is not None
    }
    for operator in operators:
        values[operator.weight] = operator.value
        if operator.bias is not None:
            values[operator.bias] = weights[operator.output].bias_value
    tensors = quantised_tensors(graph, values, operators, ranges, bits[1], source.zero_points)
    return Int8Network(program, tensors, operators, values, source.ignored, before)


def folded(network: Int8Network) -> Int8Network:
    """The network without batch-norms, biases as INT32: what targets compute; itself where it is so already."""
    if not any(op.op_type == BATCH_NORM for op in network.graph.operators):
        return network
    program, values, operators = fold(network.program, network.values, network.by_output)
    return assemble(program, values, operators, network.ranges, network.ignored, network.zero_points)


def assemble(
    program: object,
    values: Mapping[str, np.ndarray],
    operators: Mapping[str, QuantizedOperator],
    ranges: Mapping[str, float],
    ignored: frozenset[str],
    zero_points: Mapping[str, int] | None = None,
) -> Int8Network:
    """A network of its parts: tensors are found, biases become integers.

    Args:
        program, values, operators: see `fold.fold`.
        ranges: value of 127 steps of each tensor, above 0.
        ignored: see `Int8Network`.
        zero_points: of tensors that are not symmetric.
    """
    graph = read_graph(program)
    tensors = quantised_tensors(graph, values, tuple(operators.values()), ranges, zero_points=zero_points)
    with_biases = _with_biases(graph, values, operators, ranges)
    values = {**values, **{operator.weight: operator.value for operator in with_biases}}
    return Int8Network(program, tensors, with_biases, values, ignored)


def _with_biases(
    graph: Graph,
    values: Mapping[str, np.ndarray],
    operators: Mapping[str, QuantizedOperator],
    ranges: Mapping[str, float],
) -> tuple[QuantizedOperator, ...]:
    """The operators with the biases that are fused into them, as integers."""
    layers, made = fused_layers(graph), []
    for operator in operators.values():
        layer = layers.get(operator.output)
        if layer is not None and layer.bias is not None:
            scale = QuantParams.symmetric(ranges[operator.activation]).scale
            result = ranges.get(layer.output)
            operator = quantise_bias(
                replace(operator, bias=layer.bias),
                values[layer.bias],
                scale,
                QuantParams.symmetric(result).scale if result else None,
            )
        made.append(operator)
    return tuple(made)


def _operator(
    operator: QuantizableOperator, weight: QuantizedWeight, ranges: Mapping[str, float], bits: tuple[int, int]
) -> QuantizedOperator:
    largest = 2 ** (bits[0] - 1) - 1
    scales = weight.absmax.astype(np.float64) / largest
    axis = operator.axis
    params = QuantParams(scales if axis >= 0 else float(scales[0]), bits=bits[0], axis=axis)
    whole = None
    if weight.bias is not None:
        step = np.atleast_1d(params.scale) * QuantParams.symmetric(ranges[operator.activation], bits[1]).scale
        whole = np.rint(weight.bias_value / step).astype(np.int64)
    return QuantizedOperator(
        operator.op_type,
        operator.output,
        operator.activation,
        operator.weight,
        weight.integers,
        params,
        weight.bias,
        whole,
    )
