"""The activation function behind a tensor: quantisation error counts by what it changes behind that function.

Below -3 a hard-swish gives 0, whatever its input: that part of the input needs no quantised values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from picoquant.int8.functions import Function, function_of


def function_behind(program: Any, name: str) -> Function | None:
    """The activation that alone uses a tensor; None when an operator needs the tensor's own values.

    Args:
        program: the float network.
        name: of the tensor.
    """
    block = program.global_block()
    users = [op for op in block.ops if name in op.input_arg_names]
    return function_of(users[0].type, users[0].all_attrs()) if len(users) == 1 else None


def effective_minimum(program: Any, scope: Any, name: str) -> np.ndarray | None:
    """The low end of a tensor's effective range in an equalised hard-swish, which has a factor for each channel.

    In `x * relu6(s * x + 3)` (`ptq/equalisation`) values below -3/s give 0, whatever they are.

    Args:
        program: the float network.
        scope: holds its stored variables.
        name: of `x`.

    Returns: `[C]` float32; None for any other tensor.
    """
    block = program.global_block()
    users = [op for op in block.ops if name in op.input_arg_names]
    if sorted(op.type for op in users) != ["depthwise_conv2d", "elementwise_mul"]:
        return None
    conv, product = sorted(users, key=lambda op: op.type)
    weight = np.array(scope.find_var(conv.input("Filter")[0]).get_tensor())
    add = _only_user(block, conv.output("Output")[0], "elementwise_add")
    gate = _only_user(block, add.output("Out")[0], "relu6") if add is not None else None
    variable = block._find_var_recursive(add.input("Y")[0]) if gate is not None else None
    if variable is None or not variable.persistable or gate.output("Out")[0] not in product.input_arg_names:
        return None
    if weight.shape[1:] != (1, 1, 1) or (weight <= 0).any():
        return None
    return -np.array(scope.find_var(variable.name).get_tensor()).reshape(-1) / weight.reshape(-1)


def _only_user(block: Any, name: str, op_type: str) -> Any | None:
    users = [op for op in block.ops if name in op.input_arg_names]
    return users[0] if len(users) == 1 and users[0].type == op_type else None
