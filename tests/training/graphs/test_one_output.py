"""A convolution to one channel gives what it gave, and the same gradients, from depthwise kernels."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.training.fast import fast_convolutions_available, traced
from picoquant.training.graphs.rewrite import ChannelsLast

pytestmark = pytest.mark.skipif(not fast_convolutions_available(), reason="this paddle has no oneDNN")


class Kept(ChannelsLast):
    """Keeps the kinds of operators, forward."""

    def before_append_backward(self, program):
        program = super().before_append_backward(program)
        self.kinds = [operator.type for operator in program.global_block().ops]
        return program


class OneChannel(nn.Layer):
    def __init__(self, channels: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        paddle.seed(0)
        self.first = nn.Conv2D(24, channels, 1, bias_attr=False)
        self.one = nn.Conv2D(channels, 1, kernel, stride, padding)

    def forward(self, image):
        return self.one(self.first(image))


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding"),
    [(32, 5, 1, 2), (20, 3, 2, 1), (16, (1, 3), 1, 0), (48, 3, 1, 0)],
)
def test_result_and_gradients_are_those_of_the_convolution(channels, kernel, stride, padding):
    layer, random, rewrite = OneChannel(channels, kernel, stride, padding), np.random.RandomState(0), Kept()
    first = paddle.to_tensor(random.randn(2, 24, 9, 8).astype("float32"), stop_gradient=False)
    run = traced(layer.forward, (first,), [[None, 24, None, None]], rewrite)
    for size in ([9, 8], [6, 11], [5, 5]):
        images = [paddle.to_tensor(random.randn(3, 24, *size).astype("float32"), stop_gradient=False)]
        images.append(images[0].clone().detach())
        images[1].stop_gradient = False
        weight = None
        found = []
        for how, image in zip((layer, run), images):
            out = how(image)
            weight = (
                paddle.to_tensor(random.randn(*out.shape).astype("float32")) if weight is None else weight
            )
            (out * weight).sum().backward()
            found.append(
                [out, image.grad, layer.one.weight.grad, layer.one.bias.grad, layer.first.weight.grad]
            )
            found[-1] = [value.numpy() for value in found[-1]]
            layer.clear_gradients()
        for left, right in zip(*found):
            assert left.shape == right.shape
            np.testing.assert_allclose(right, left, atol=1e-4)
    assert rewrite.kinds.count("depthwise_conv2d") == 1


@pytest.mark.parametrize("layer", [nn.Conv2D(8, 1, 3), nn.Conv2D(32, 1, 1), nn.Conv2D(32, 2, 3)])
def test_others_stay(layer):
    rewrite = Kept()
    image = paddle.rand([1, layer._in_channels, 6, 6])
    traced(layer.forward, (image,), [[None, layer._in_channels, None, None]], rewrite)(image)
    assert rewrite.kinds.count("conv2d") == 1 and "depthwise_conv2d" not in rewrite.kinds
