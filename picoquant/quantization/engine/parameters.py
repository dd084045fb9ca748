"""Parameters with names of ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle


def named_parameter(name: str, value: np.ndarray, decay: float | None = None) -> Any:
    """A trainable tensor.

    Args:
        name: names it in an optimiser's state; several networks may have the same.
        value: float32.
        decay: of L2 regularisation, in place of the optimiser's; None: the optimiser's.
    """
    regularizer = None if decay is None else paddle.regularizer.L2Decay(decay)
    attributes = paddle.ParamAttr(name=name, regularizer=regularizer)
    with paddle.utils.unique_name.guard():  # Paddle refuses a name that it has seen within a guard
        found = paddle.create_parameter(list(value.shape), "float32", attr=attributes)
    found.set_value(value)
    return found
