"""Hard-swishes as OpenVINO computes them inside INT8 convolutions: whole, of values that are not rounded before."""

from __future__ import annotations

from typing import Any

import numpy as np

from picoquant.backends.onnx.graph import Graph, attribute, make_node
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.openvino.kernels import drop_idle_rounding, gates_apart
from picoquant.errors import ToolError
from picoquant.int8.network import Int8Network
from picoquant.int8.passes.hard_swish import join_hard_swishes

_OPSET = 14  # the first with HardSwish
_SIXTH = 1 / 6


def make_whole_onnx(network: Int8Network) -> Any:
    """The ONNX model with each hard-swish as one HardSwish and one rounding behind it.

    Written out in operators on integers, as ONNX Runtime has faster kernels for, OpenVINO computes each operator by
    itself; a whole one becomes part of the convolution before it.

    Args:
        network: for one image, with a hard-swish in it.

    Raises: `ToolError` as `make_onnx`.
    """
    joined, factors = join_hard_swishes(network)
    graph = Graph(make_onnx(joined, exact=True, kernels=False))
    for sigmoid in [node for node in graph.nodes if node.op_type == "HardSigmoid"]:
        users, x = graph.users(sigmoid.output[0]), sigmoid.input[0]
        half = abs(attribute(sigmoid, "alpha", 0.2) - _SIXTH) < 1e-6
        if half and len(users) == 1 and users[0].op_type == "Mul" and x in users[0].input:
            result = list(users[0].output)
            graph.insert_before(users[0], [make_node("HardSwish", [x], result, result[0])])
            graph.remove(users[0])
            graph.remove(sigmoid)
    for name, behind in factors.items():
        node = next(
            (
                node
                for node in graph.nodes
                if node.op_type == "HardSwish" and node.output[0] in (name, f"{name}.float")
            ),
            None,
        )
        if node is None:
            raise ToolError(f"paddle2onnx made no hard-swish of {name}; report the model to picoquant")
        result = node.output[0]
        node.output[0] = f"{result}.swish"
        graph.constants[f"{name}.behind"] = behind.astype(np.float32).reshape(1, -1, 1, 1)
        graph.insert_after(
            node, make_node("Mul", [node.output[0], f"{name}.behind"], [result], f"{result}.scaled")
        )
    gates_apart(graph)
    if (
        not factors
    ):  # with them results lie on the middle between two levels, which OpenVINO then rounds otherwise
        drop_idle_rounding(graph)
    model = graph.finish()
    model.opset_import[0].version = max(model.opset_import[0].version, _OPSET)
    return model
