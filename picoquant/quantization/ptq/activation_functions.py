"""The activation function behind a tensor: quantisation error counts by what it changes behind that function.

Below -3 a hard-swish gives 0, whatever its input: that part of the input needs no quantised values.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picoquant.int8.functions import Function, function_of
from picoquant.paddle_program.graph import Graph, Operator


def function_behind(graph: Graph, name: str) -> Function | None:
    """The activation that alone uses a tensor; None when an operator needs the tensor's own values.

    Args:
        graph: of the float network.
        name: of the tensor.
    """
    users = graph.users(name)
    return function_of(users[0].op_type, users[0].attributes) if len(users) == 1 else None


def effective_minimum(graph: Graph, values: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """The low end of a tensor's effective range in an equalised hard-swish, which has a factor for each channel.

    In `x * relu6(s * x + 3)` (`ptq/equalisation`) values below -3/s give 0, whatever they are.

    Args:
        graph: of the float network.
        values: its stored tensors.
        name: of `x`.

    Returns: `[C]` float32; None for any other tensor.
    """
    users = graph.users(name)
    if sorted(op.op_type for op in users) != ["depthwise_conv2d", "elementwise_mul"]:
        return None
    conv, product = sorted(users, key=lambda op: op.op_type)
    weight = values[conv.input("Filter0")]
    add = _only_user(graph, conv.results[0], "elementwise_add")
    gate = _only_user(graph, add.results[0], "relu6") if add is not None else None
    if gate is None or not graph.tensor(add.input("Y0")).stored:
        return None
    if gate.results[0] not in [name for _, name in product.inputs]:
        return None
    if weight.shape[1:] != (1, 1, 1) or (weight <= 0).any():
        return None
    return -values[add.input("Y0")].reshape(-1) / weight.reshape(-1)


def _only_user(graph: Graph, name: str, op_type: str) -> Operator | None:
    users = graph.users(name)
    return users[0] if len(users) == 1 and users[0].op_type == op_type else None
