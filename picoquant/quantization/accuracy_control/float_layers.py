"""Layers in float inside an INT8 network: their names, their original parameters, how they split the rest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from picoquant.int8.ignored_layers import layer_names
from picoquant.int8.operators import QuantizableOperator
from picoquant.paddle_program.graph import Graph
from picoquant.paddle_program.layers import fused_layers


def names_by_output(operators: Sequence[QuantizableOperator]) -> dict[str, str]:
    """The layer's name by result."""
    return {operator.output: name for operator, name in zip(operators, layer_names(operators))}


def float_outputs(graph: Graph, op_types: Sequence[str], int8: Collection[str]) -> set[str]:
    """Results of the operators with stored weights that are not in INT8.

    Args:
        graph: the float network.
        op_types: types of operators that can be in INT8.
        int8: results of those that are.
    """
    return {
        op.name
        for op in graph.operators
        if op.op_type in op_types
        and op.name not in int8
        and any(graph.tensor(name).stored for _, name in op.inputs)
    }


def int8_runs(graph: Graph, floats: Collection[str]) -> int:
    """Stretches of a network's operators between the layers in float.

    Args:
        graph: the float network.
        floats: results of the operators with weights that stay in float.
    """
    runs, inside = 0, False
    for op in graph.operators:
        if floats and {name for _, name in op.outputs} & set(floats):
            inside = False
        elif not inside:
            runs, inside = runs + 1, True
    return runs


def original_params(
    graph: Graph, operators: Sequence[QuantizableOperator], float_params: Mapping[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """By result: each operator's weight and bias before they were changed for INT8, where they were.

    Args:
        graph: of the float network, in which a bias follows its convolution.
        operators: the operators to look up.
        float_params: the stored variables that were changed, by name, as they were before.
    """
    layers, found = fused_layers(graph), {}
    for operator in operators:
        layer = layers.get(operator.output)
        names = (operator.weight, None if layer is None else layer.bias)
        found[operator.output] = {name: float_params[name] for name in names if name in float_params}
    return found
