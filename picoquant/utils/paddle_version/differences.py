"""What Paddle 2.6 and 3 call differently, or compute differently."""

from __future__ import annotations

from functools import cache
from typing import Any

# `VarType.Type` of a tensor in framework.proto: LOD_TENSOR in 2.6, DENSE_TENSOR in 3.
TENSOR = 7
_TENSOR_FIELD, _LEVEL_FIELD = (
    3,
    2,
)  # numbers in `VarType` and in its tensor: lod_tensor.lod_level, dense_tensor.legacy_lod_level
PLACEMENT_PASSES = ("mkldnn_placement_pass", "onednn_placement_pass")


def paddle_3() -> bool:
    """Whether the installed Paddle is 3 or later."""
    import paddle

    return int(paddle.__version__.split(".")[0] or 0) >= 3  # a build of the development branch is 0.0.0


def holds_tensor(kind: Any) -> bool:
    """Whether a `VarType` message describes a dense tensor."""
    return bool(kind.HasField(_field(kind, _TENSOR_FIELD)))


def tensor_of(kind: Any) -> Any:
    """The `TensorDesc` of a `VarType` message, to be read or changed: `data_type` and `dims`."""
    return getattr(kind, _field(kind, _TENSOR_FIELD)).tensor


def set_level_0(kind: Any) -> None:
    """Write the level of a dense tensor that is no sequence, which Paddle writes for what is computed."""
    holder = getattr(kind, _field(kind, _TENSOR_FIELD))
    setattr(holder, _field(holder, _LEVEL_FIELD), 0)


def _field(message: Any, number: int) -> str:
    return str(message.DESCRIPTOR.fields_by_number[number].name)


def onednn_attribute() -> str:
    """Name of the attribute of an operator that makes oneDNN compute it."""
    from paddle.base import core

    return "use_onednn" if hasattr(core, "is_compiled_with_onednn") else "use_mkldnn"


@cache
def clip_gradient_at_its_bounds() -> tuple[float, float]:
    """The gradient of `clip` where a value equals the lower or the upper bound: 0 in Paddle 2.6, 1 from 3 on."""
    import paddle

    with paddle.base.dygraph.guard(), paddle.enable_grad():
        value = paddle.to_tensor([0.0, 6.0], stop_gradient=False)
        low, high = paddle.grad(paddle.clip(value, 0.0, 6.0).sum(), value)[0].tolist()
    return low, high


def clip_passes_gradients_at_its_bounds() -> bool:
    """Whether the gradient of `clip` passes where a value equals a bound."""
    return any(clip_gradient_at_its_bounds())
