"""Methods of layers as Paddle's programs of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import paddle
from paddle import nn

from picoquant.utils.paddle_version.differences import clip_passes_gradients_at_its_bounds
from picoquant.utils.paddle_version.tracing import older_programs


def program_of(method: MethodType, inputs: Sequence[Any], sizes: Sequence[Any]) -> tuple[Any, Any]:
    """A method of a layer as Paddle's program of it, and what must be kept with it.

    Args:
        method: takes and returns tensors.
        inputs: of a first call. Those that stop gradients must do so in every call.
        sizes: for each input its shape, None where that varies; or an input specification. Lists of them for lists.
    """
    clip_passes_gradients_at_its_bounds()  # tried now: within the graph that is traced it could not be
    specs = _specifications(inputs, sizes)
    written = _AsWritten(method)  # Paddle 3 holds it by a weak reference
    static = paddle.jit.to_static(written.run, input_spec=[specs], full_graph=True)
    with older_programs():
        _, program = static.get_concrete_program(list(inputs), is_train=True)
    return program, written


class _AsWritten(nn.Layer):
    """A method, run as it is written while it is traced.

    What depends on the values of tensors is not looked for in its source, nor in what it calls: that took most of the
    time of tracing.
    """

    def __init__(self, method: MethodType) -> None:
        super().__init__()
        self._layer = method.__self__  # the graph's parameters are looked for in this layer
        self._method = (method,)

    def run(self, inputs: Sequence[Any]) -> Any:
        return self._run(inputs)

    @paddle.jit.not_to_static
    def _run(self, inputs: Sequence[Any]) -> Any:
        return self._method[0](*inputs)


def _specifications(inputs: Sequence[Any], sizes: Sequence[Any]) -> list[Any]:
    return [
        size
        if isinstance(size, paddle.static.InputSpec)
        else _specifications(one, size)
        if isinstance(one, (list, tuple))
        else paddle.static.InputSpec(size, one.dtype, stop_gradient=one.stop_gradient)
        for one, size in zip(inputs, sizes)
    ]


def any_size(maps: Any) -> Any:
    """Input specification with the number of channels fixed, and N, H, W not."""
    if isinstance(maps, (list, tuple)):
        return [any_size(one) for one in maps]
    return paddle.static.InputSpec([None, maps.shape[1], None, None], maps.dtype)
