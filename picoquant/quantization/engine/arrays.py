"""Tensors of the engine as arrays, without a copy where their values lie in order."""

from __future__ import annotations

from typing import Any

import numpy as np
from paddle.utils import dlpack


def as_array(tensor: Any) -> np.ndarray:
    """The values of a tensor, on CPU in its own memory, which stays as long as the array does; not to be written to."""
    if not tensor.place.is_cpu_place():
        return tensor.numpy()
    # Paddle 2.6 hands out a view, such as a transposed tensor, without its strides.
    return np.from_dlpack(_Shared(tensor if tensor.is_contiguous() else tensor.contiguous()))


class _Shared:
    """What `numpy.from_dlpack` wants; Paddle 2.6 has only the function that makes the capsule."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __dlpack__(self, **_: Any) -> Any:
        return dlpack.to_dlpack(self._tensor)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0  # the CPU; source: DLPack's `DLDeviceType`
