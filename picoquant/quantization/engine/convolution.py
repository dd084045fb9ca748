"""Convolutions with the bias and ReLU behind them, by oneDNN's kernels on CPU.

Paddle 2.6 cannot choose oneDNN in dygraph, but in a static graph, where it is about ten times as fast, forward and
backward. So each kind of convolution of a network is traced once, for images of any size and number.
"""

from __future__ import annotations

from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from picoquant.paddle_program.graph import Operator
from picoquant.quantization.engine.operators import padding_of
from picoquant.training.fast import traced

_ACTIVATIONS = {"": lambda value: value, "relu": F.relu, "relu6": F.relu6}


class _Layer(nn.Layer):
    """Convolution, bias and activation with the weights as inputs."""

    def __init__(self, op: Operator, activation: str) -> None:
        super().__init__()
        self._where = (
            list(op.attributes["strides"]),
            padding_of(op.attributes),
            list(op.attributes["dilations"]),
        )
        self._groups, self._activation = op.attributes["groups"], _ACTIVATIONS[activation]

    def plain(self, image: Any, weight: Any, bias: Any | None = None) -> Any:
        return self._activation(F.conv2d(image, weight, bias, *self._where, self._groups))

    def with_bias(self, image: Any, weight: Any, bias: Any) -> Any:
        return self.plain(image, weight, bias)

    def without_bias(self, image: Any, weight: Any) -> Any:
        # The scale by 1 gives back the plain layout: what a traced graph returns is not converted.
        return self._activation(paddle.scale(F.conv2d(image, weight, None, *self._where, self._groups)))


class Convolutions:
    """Computes the convolutions of any networks; what is traced for one serves the next, too.

    Args:
        onednn: whether oneDNN is used.
    """

    def __init__(self, onednn: bool) -> None:
        self.onednn = onednn
        self._traced: dict[Any, Any] = {}

    def __call__(self, op: Operator, activation: str, image: Any, weight: Any, bias: Any | None) -> Any:
        """Compute one.

        Args:
            op: a `conv2d` or `depthwise_conv2d`.
            activation: `relu`, `relu6` or empty.
            image: `[N, C, H, W]`.
            weight: `[O, I, kH, kW]`.
            bias: `[O]`, if there is one.
        """
        inputs = (image, weight) if bias is None else (image, weight, bias)
        if not paddle.in_dynamic_mode():  # inside of a graph that is traced as a whole
            return _Layer(op, activation).plain(*inputs)
        if not self.onednn:
            return self._method(op, activation, bias)(*inputs)
        geometry = tuple(op.attributes.get(name) for name in ("strides", "paddings", "dilations", "groups"))
        key = (
            *geometry, padding_of(op.attributes), activation, tuple(weight.shape),
            paddle.is_grad_enabled(),  # a graph that first ran without gradients frees what they need later, too
            *(one.stop_gradient for one in inputs),
        )  # fmt: skip
        key = tuple(tuple(part) if isinstance(part, list) else part for part in key)
        if key not in self._traced:
            sizes = [[None, image.shape[1], None, None], *(one.shape for one in inputs[1:])]
            self._traced[key] = traced(self._method(op, activation, bias), inputs, sizes)
        return self._traced[key](*inputs)

    def _method(self, op: Operator, activation: str, bias: Any | None) -> Any:
        layer = _Layer(op, activation)
        return layer.without_bias if bias is None else layer.with_bias
