"""The layer: in dygraph it computes as one process with all images would; a graph that is traced of it is rewritten."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer

from picoquant.training.joint_batch_norm.statistics import (
    Own,
    Processes,
    Sides,
    joint_gradients,
    joint_statistics,
)


class JointBatchNorm2D(nn.BatchNorm2D):
    """Batch norm over the images of all processes, with the parameters and statistics of another.

    In evaluation, and where no gradients are wanted, it is an ordinary batch norm. While it is traced it is one, too:
    `rewrite.JointRewrite` changes the graph.

    Args:
        like: whose parameters and statistics it takes.
        group: all processes.
    """

    def __init__(self, like: nn.BatchNorm2D, group: Processes) -> None:
        super().__init__(like._num_features, like._momentum, like._epsilon)
        self.weight, self.bias = like.weight, like.bias
        self._mean, self._variance = like._mean, like._variance
        self.training = like.training
        self._group = group

    def forward(self, x: Tensor) -> Tensor:
        """`[N, C, H, W]` -> the same shape."""
        if not (self.training and paddle.in_dynamic_mode() and paddle.is_grad_enabled()):
            return super().forward(x)
        return _Normalise.apply(x, self.weight, self.bias, self)

    def follow(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Move the running statistics towards those of a batch."""
        for running, found in ((self._mean, mean), (self._variance, variance)):
            kept = self._momentum * running.numpy().astype(np.float64)
            running.set_value((kept + (1 - self._momentum) * found).astype(np.float32))


class _Normalise(PyLayer):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: JointBatchNorm2D) -> Tensor:
        count = x.size // x.shape[1]
        mean = x.mean([0, 2, 3])
        variance = (x - _spread(mean)).square().mean([0, 2, 3])
        (joint,) = joint_statistics(layer._group, [Own(mean.numpy(), variance.numpy(), count)])
        layer.follow(*joint)
        inverse = paddle.to_tensor((1 / np.sqrt(joint.variance + layer._epsilon)).astype(np.float32))
        mean = paddle.to_tensor(joint.mean.astype(np.float32))
        normalised = (x - _spread(mean)) * _spread(inverse)
        context.save_for_backward(normalised, inverse, weight)
        context.group = layer._group
        return normalised * _spread(weight) + _spread(bias)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normalised, inverse, weight = context.saved_tensor()
        count = gradient.size // gradient.shape[1]
        of_scale, of_bias = (gradient * normalised).sum([0, 2, 3]), gradient.sum([0, 2, 3])
        (means,) = joint_gradients(context.group, [Sides(of_scale.numpy(), of_bias.numpy(), count)])
        along, level = (_spread(paddle.to_tensor(value.astype(np.float32))) for value in means[:2])
        of_x = (gradient - level - normalised * along) * _spread(weight * inverse)
        return of_x, of_scale, of_bias


def _spread(values: Tensor) -> Tensor:
    return values.reshape([1, -1, 1, 1])


def synchronised(model: nn.Layer, group: Processes) -> nn.Layer:
    """The network with batch norm over the images of all processes, under the same names.

    On GPUs it is Paddle's; on CPU, for which paddle 2.6 has no kernel of it, this file's.
    """
    if paddle.get_device() != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for layer in model.sublayers(include_self=True):
        for name, child in layer.named_children():
            if type(child) is nn.BatchNorm2D:
                setattr(layer, name, JointBatchNorm2D(child, group))
    return model
