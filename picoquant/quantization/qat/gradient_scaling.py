"""Gradient scaling: an equalised network is trained as the network before equalisation would be.

Equalisation multiplies a weight by `s` (`ptq/equalisation.py`), and so its gradient by `1 / s`: a step of SGD then
moves the weight, in terms of the original network, by `1 / s^2` of the original step, and `s` ranges from a thousandth
to a thousand. Here gradients are multiplied by `s^2`, which makes a step of SGD (with momentum and weight decay, too)
the same as without equalisation. The constants of a hard-swish that was written out are not trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle

from picoquant.paddle_program.static.programs import write_variable

_BACKWARD = 1  # op_role


def is_trainable(variable: Any) -> bool:
    """Whether a variable of the student is a weight that training changes."""
    return isinstance(variable, paddle.framework.Parameter) and variable.trainable


def is_constant(name: str, scales: Mapping[str, np.ndarray]) -> bool:
    """Whether a stored variable is a constant that equalisation added.

    Args:
        name: of the variable.
        scales: see `scale_gradients`; 0 for constants.
    """
    return name in scales and not scales[name].any()


def scale_gradients(
    program: Any, scope: Any, gradients: list[tuple[Any, Any]], scales: Mapping[str, np.ndarray]
) -> list[tuple[Any, Any]]:
    """Multiply the gradients of equalised weights by the square of their scales.

    Args:
        program: with backward, before its optimiser; changed in place.
        scope: receives the factors.
        gradients: weights and their gradients, variables.
        scales: what equalisation multiplied each stored variable by, broadcasting to its shape.

    Returns: weights and the gradients for the optimiser.
    """
    block, found = program.global_block(), []
    for weight, gradient in gradients:
        scale = scales.get(weight.name)
        if scale is None:
            found.append((weight, gradient))
            continue
        value = np.broadcast_to(scale.astype(np.float32) ** 2, weight.shape)
        rate = block.create_var(
            name=f"{weight.name}@rate", shape=value.shape, dtype=weight.dtype, persistable=True
        )
        rate.stop_gradient = True
        write_variable(scope, rate.name, value)
        result = block.create_var(
            name=f"{weight.name}@GRAD.at_rate", shape=weight.shape, dtype=weight.dtype, persistable=False
        )
        block.append_op(
            type="elementwise_mul",
            inputs={"X": gradient, "Y": rate},
            outputs={"Out": result},
            attrs={"axis": -1, "op_role": _BACKWARD},
        )
        found.append((weight, result))
    return found
