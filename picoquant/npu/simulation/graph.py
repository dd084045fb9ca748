"""An INT8 network prepared for the simulation: how a target stores each tensor, what convolutions absorb."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from picoquant.backends.tflite.hard_sigmoid import fold_hard_sigmoids
from picoquant.backends.tflite.params import tensor_params
from picoquant.errors import ToolError
from picoquant.int8.network import Int8Network, QuantizedOperator
from picoquant.int8.quant_params import QuantParams
from picoquant.npu.simulation.arithmetic import target_params
from picoquant.paddle_program.graph import Graph, Operator
from picoquant.paddle_program.layers import BATCH_NORM
from picoquant.targets.integer_rules import Rules


@dataclass(frozen=True)
class SimulatedGraph:
    """A network with the quantisation parameters of a target.

    Attributes:
        network: the network for one image.
        params: the target's scale, zero point and integer type of each tensor in `network.held`, by name.
    """

    network: Int8Network
    params: Mapping[str, QuantParams]

    @property
    def graph(self) -> Graph:
        """The network's operators and tensors, with shapes for one image."""
        return self.network.graph

    @property
    def values(self) -> Mapping[str, np.ndarray]:
        """The network's stored tensors (weights and constants), by name."""
        return self.network.values

    @property
    def quantised(self) -> Mapping[str, QuantizedOperator]:
        """The quantised operators, by the name of their result."""
        return self.network.by_output

    @property
    def operators(self) -> list[Operator]:
        """The operators in execution order, without those that convolutions absorb (bias, ReLU)."""
        absorbed = {op.name for layer in self.network.layers.values() for op in layer.fused}
        return [op for op in self.graph.operators if op.name not in absorbed]


def build_graph(network: Int8Network, rules: Rules) -> SimulatedGraph:
    """Choose the quantisation parameters with which a target stores each tensor of a network.

    Args:
        network: the network for one image.
        rules: the target's rules.

    Raises: `ToolError` naming a tensor without a range, or a batch-norm that was not folded.
    """
    for op in network.graph.operators:
        if op.op_type == BATCH_NORM:
            raise ToolError(
                f"batch_norm {op.name} does not follow an INT8 convolution: quantise the model again"
            )
    if rules.tflite:
        network = fold_hard_sigmoids(network)
        return SimulatedGraph(network, tensor_params(network))
    sigmoids = {op.name for op in network.graph.operators if op.op_type == "sigmoid"}
    params = {}
    for name in network.held:
        tensor = network.tensors[name]
        if tensor.params is None:
            raise ToolError(
                f"tensor {name} has no range, without which no NPU computes it: quantise the model again"
            )
        zero = tensor.params.zero_point
        unsigned = rules.arithmetic.numbers == "uint8" and not rules.on_shaders(network.per_channel)
        if name in sigmoids and tensor.params.is_symmetric and unsigned:
            zero = -128  # as Paddle Lite hands it to the driver
        params[name] = target_params(network.ranges[name], rules, zero)
    return SimulatedGraph(network, params)
