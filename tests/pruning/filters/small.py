"""A small network with everything that ties channels: depthwise, squeeze-and-excite, sum, concatenation, shuffle."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from picoquant.detector.layers import channel_shuffle


class Block(nn.Layer):
    """A convolution, its batch norm and an activation."""

    def __init__(self, inputs, outputs, size=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2D(inputs, outputs, size, padding=size // 2, groups=groups, bias_attr=False)
        self.bn = nn.BatchNorm2D(outputs)

    def forward(self, x):
        return F.hardswish(self.bn(self.conv(x)))


class Small(nn.Layer):
    """Takes `[N, 3, 64, 64]`; has the methods of a detector that pruning uses."""

    def __init__(self):
        super().__init__()
        self.stem, self.deep = Block(3, 8, 3), Block(8, 8, 3, groups=8)
        self.squeeze, self.excite = nn.Conv2D(8, 4, 1), nn.Conv2D(4, 8, 1)
        self.left, self.right = Block(8, 12), Block(8, 12)  # added
        self.part = Block(6, 6)  # of the split sum
        self.wide = Block(12, 10)
        self.spatial = nn.Conv2D(22, 5, 3, padding=1)  # concatenation of 12 and 10
        self.out = nn.Conv2D(5, 4, 1)
        self.num_classes = 1

    def logits(self, image):
        """The outputs, `[N, 4, H, W]`."""
        x = self.deep(self.stem(F.avg_pool2d(image, 8)))
        x = x * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        x = self.left(x) + self.right(x)
        kept, half = paddle.split(x, 2, axis=1)
        x = channel_shuffle(paddle.concat([kept, self.part(half)], axis=1), 2)
        x = paddle.concat([x, F.interpolate(self.wide(F.max_pool2d(x, 2)), scale_factor=2)], axis=1)
        return [self.out(F.relu6(self.spatial(x)))]

    def forward(self, image):
        return self.logits(image)[0]


def small(seed=4):
    """The network in evaluation mode, with statistics that differ from channel to channel."""
    paddle.seed(seed)
    with paddle.utils.unique_name.guard():
        model = Small()
    statistics(model)
    model.eval()
    return model


def statistics(model):
    """Batch norms with means, variances and factors by which an exchanged channel would be seen."""
    generator = np.random.default_rng(3)
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            size = layer.weight.shape
            for value, low, high in (
                (layer._mean, -0.1, 0.1),
                (layer._variance, 0.5, 1.5),
                (layer.weight, 0.8, 1.2),
                (layer.bias, -0.1, 0.1),
            ):
                value.set_value(generator.uniform(low, high, size).astype(np.float32))
