"""The memory of Paddle's tensors on CPU as NumPy arrays: what Paddle itself gives to NumPy is a copy."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np


def float32_view(tensor: Any) -> np.ndarray:
    """The values of a float32 tensor on CPU as they lie in memory, to be read or written; valid while the tensor lives.

    Args:
        tensor: contiguous, of any layout: a `paddle.Tensor`, or what an operator `py_func` is called with. Of what
            oneDNN has in a layout of its own the values are in that order.

    Returns: an array of the tensor's shape.
    """
    dense = tensor.get_tensor() if hasattr(tensor, "get_tensor") else tensor
    shape = [int(size) for size in dense.shape()]
    memory = (ctypes.c_float * math.prod(shape)).from_address(dense._ptr())
    return np.ctypeslib.as_array(memory).reshape(shape)
