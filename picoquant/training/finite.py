"""Find where in a network values become NaN or infinite."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import Tensor, nn

from picoquant.errors import UserError


@paddle.no_grad()
def first_not_finite(model: nn.Layer, images: Tensor) -> str | None:
    """Describe the first parameter, or else the first layer's result, that is not finite.

    Args:
        model: a `PicoDet`, its layers not traced.
        images: `[N, 3, H, W]` float32, the batch.

    Returns: a phrase for a message; None if all values are finite.
    """
    for name, value in model.named_parameters():
        # Batch-norm statistics are not the cause: this batch has already been averaged into them.
        if not value.stop_gradient and not _finite(value):
            return f"the weights {name}"
    if not _finite(images):
        return "the images"
    found: list[str] = []

    def watch(name: str) -> Any:
        def note(layer: nn.Layer, inputs: Any, outputs: Any) -> None:
            if not found and not all(map(_finite, _tensors(outputs))):
                found.append(f"the result of layer {name}")

        return note

    hooks = [layer.register_forward_post_hook(watch(name)) for name, layer in model.named_sublayers()]
    try:
        outputs = model.raw(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not found and not all(map(_finite, _tensors(outputs))):
        return "the network's outputs"
    return found[0] if found else None


def _finite(value: Tensor) -> bool:
    return bool(paddle.isfinite(value).all())


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, (list, tuple)) else []


class DivergedError(UserError):
    """The loss is NaN or infinite; the message names step and learning rate."""
