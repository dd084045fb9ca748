"""The layers of a folded network: each convolution with its bias and what follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from picoquant.int8.ignored_layers import layer_names
from picoquant.int8.operators import QuantizableOperator
from picoquant.paddle_program.graph import Graph
from picoquant.paddle_program.layers import CONVOLUTIONS, fused_layer


@dataclass(frozen=True)
class Layer:
    """One operator with weights, as an NPU runs it.

    Attributes:
        index: place in the network, from 0.
        name: the weight's name without its ending (`conv2d_5.w_0` is `conv2d_5`); with the place behind it
            where layers share a weight.
        operator: what becomes INT8.
        weight_shape: in Paddle's layout, `[out, in / groups, h, w]` for a convolution.
        output: the tensor that it gives: bias added, a ReLU or ReLU6 applied.
        chain: names of the operators from the convolution to that tensor.
        follows: types of the operators that use it.
    """

    index: int
    name: str
    operator: QuantizableOperator
    weight_shape: tuple[int, ...]
    output: str
    chain: tuple[str, ...]
    follows: tuple[str, ...]


def find_layers(graph: Graph, operators: Sequence[QuantizableOperator]) -> tuple[Layer, ...]:
    """The layers of a folded network, first to last.

    Args:
        graph: see `batch_norm_folding.fold_folder`.
        operators: see `operators.quantizable_operators`.
    """
    names = layer_names(operators)
    layers = []
    for index, operator in enumerate(operators):
        chain = [graph.producer(operator.output)]
        if chain[0].op_type in CONVOLUTIONS:
            chain += fused_layer(graph, chain[0]).fused
        output = chain[-1].name
        follows = tuple(dict.fromkeys(op.op_type for op in graph.users(output)))
        shape = graph.tensor(operator.weight).shape or ()
        made = tuple(op.name for op in chain)
        layers.append(Layer(index, names[index], operator, shape, output, made, follows))
    return tuple(layers)
