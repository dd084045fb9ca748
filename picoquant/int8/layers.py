"""The layers of a folded network: each convolution with its bias and what follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from picoquant.int8.activations import TargetTensors
from picoquant.int8.ignored_layers import layer_names
from picoquant.int8.operators import QuantizedOperator
from picoquant.paddle_program.static import output_names

_LAYOUT = ("feed", "fetch")


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
        chain: the operators from the convolution to that tensor.
        follows: types of the operators that use it.
    """

    index: int
    name: str
    operator: QuantizedOperator
    weight_shape: tuple[int, ...]
    output: str
    chain: tuple[Any, ...]
    follows: tuple[str, ...]


def find_layers(
    program: Any, operators: Sequence[QuantizedOperator], tensors: TargetTensors
) -> tuple[Layer, ...]:
    """The layers of a program, first to last.

    Args:
        program: see `folding.fold_batch_norm`.
        operators: see `fake_quant.quantizable_operators`.
        tensors: see `tensors.target_tensors`.
    """
    block = program.global_block()
    ops = [op for op in block.ops if op.type not in _LAYOUT]
    names = layer_names(operators)
    layers = []
    for index, operator in enumerate(operators):
        output = tensors.fused.get(operator.output, operator.output)
        chain = _chain(ops, operator.output, output)
        follows = tuple(dict.fromkeys(op.type for op in ops if output in op.input_arg_names))
        shape = tuple(block.var(operator.weight).shape)
        layers.append(Layer(index, names[index], operator, shape, output, chain, follows))
    return tuple(layers)


def _chain(ops: Sequence[Any], first: str, last: str) -> tuple[Any, ...]:
    """The operators that make `first` and, one after the other, `last` from it."""
    chain = [next(op for op in ops if first in output_names(op))]
    name = first
    while name != last:
        chain.append(next(op for op in ops if name in op.input_arg_names))
        name = output_names(chain[-1])[0]
    return tuple(chain)
