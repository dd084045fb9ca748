"""An INT8 network as acuity takes it: float ONNX of what its integers stand for, and the scales beside it.

acuity quantises weights and biases by the scales that it is told, of which these values give the integers back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.backends.onnx.qdq import checked, computing_nodes, float_graph
from picoquant.int8.network import Int8Network
from picoquant.int8.quant_params import QuantParams

_SMALLEST = 1e-12  # scale of a channel that is all zero, which acuity would divide by


@dataclass(frozen=True)
class AcuityForm:
    """What acuity is handed.

    Attributes:
        model: an `onnx.ModelProto`; its tensors have Paddle's names.
        tensors: scale and unsigned zero point of each tensor, by name.
        weights: the scales of each operator's weight, by the name of the operator's result in `model`, and those of
            its bias, none without one.
    """

    model: Any
    tensors: dict[str, tuple[float, int]]
    weights: dict[str, tuple[list[float], list[float]]]


def make_form(network: Int8Network, params: Mapping[str, QuantParams]) -> AcuityForm:
    """Make what acuity is handed.

    Args:
        network: for one image.
        params: unsigned, of each tensor that an NPU holds, by name.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    graph = float_graph(network)
    weights = {}
    for weight in {operator.weight: None for operator in network.operators}:
        users = [operator for operator in network.operators if operator.weight == weight]
        for _, node, operator in computing_nodes(graph, weight, users):
            scales = np.maximum(operator.scales, _SMALLEST)
            steps = scales * float(params[operator.activation].scale)
            biased = node.op_type == "Conv" and len(node.input) > 2
            if operator.bias_integers is not None and biased:
                name = f"{node.name}.bias"
                graph.constants[name] = (operator.bias_integers * steps).astype(np.float32)
                node.input[2] = name
            weights[node.output[0]] = (scales.tolist(), steps.tolist() if biased else [])
    tensors = {name: (float(one.scale), int(one.zero_point)) for name, one in params.items()}
    return AcuityForm(checked(graph), tensors, weights)
