"""Weight gradients of 1x1 convolutions by a product of matrices are those of dygraph."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.training.fast import ChannelsLast, fast_convolutions_available, traced
from picoquant.training.graphs.pointwise import matrix_product

pytestmark = pytest.mark.skipif(not fast_convolutions_available(), reason="this paddle has no oneDNN")


class Kept(ChannelsLast):
    """Keeps the block with its gradients."""

    def after_append_backward(self, program, start):
        program, start = super().after_append_backward(program, start)
        self.kinds = [operator.type for operator in program.global_block().ops[start:]]
        return program, start


class Several(nn.Layer):
    """1x1 convolutions of one map, one behind another; one that halves; a 3x3 one."""

    def __init__(self) -> None:
        super().__init__()
        paddle.seed(0)
        self.wide, self.narrow = nn.Conv2D(20, 48, 1, bias_attr=False), nn.Conv2D(48, 17, 1)
        self.beside, self.halved = nn.Conv2D(48, 17, 1, bias_attr=False), nn.Conv2D(17, 32, 1, 2)
        self.large = nn.Conv2D(17, 32, 3, 2, 1)

    def forward(self, image):
        wide = self.wide(image)
        narrow = self.narrow(wide)
        return [self.halved(narrow), self.large(narrow), self.beside(wide)]


def test_gradients_are_those_of_dygraph_on_maps_of_any_size():
    layer, random, rewrite = Several(), np.random.RandomState(0), Kept()
    image = paddle.to_tensor(random.randn(2, 20, 8, 8).astype("float32"), stop_gradient=False)
    run = traced(layer.forward, (image,), [[None, 20, None, None]], rewrite)
    for shape in ([2, 20, 8, 8], [1, 20, 5, 7], [3, 20, 1, 1]):
        image = paddle.to_tensor(random.randn(*shape).astype("float32"), stop_gradient=False)
        expected = [value.numpy() for value in gradients(layer, layer, image)]
        for left, right in zip(gradients(layer, run, image), expected):
            np.testing.assert_allclose(left.numpy(), right, atol=2e-4)
    assert rewrite.kinds.count("py_func") == 3


def gradients(layer, run, image):
    """Of all parameters; the losses weigh every value differently."""
    layer.clear_gradients()
    random = np.random.RandomState(1)
    outs = run(image)
    weights = [paddle.to_tensor(random.randn(*out.shape).astype("float32")) for out in outs]
    paddle.add_n([(out * weight).sum() for out, weight in zip(outs, weights)]).backward()
    return [value.grad for value in layer.parameters()]


def test_the_product_by_hand():
    gradient = paddle.to_tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # one image, 2 x 1 places, two channels
    image = paddle.to_tensor([[[[1.0, 0.0, 2.0]], [[5.0, 1.0, 0.0]]]])
    found = matrix_product()(gradient, image)
    assert found[..., 0, 0].tolist() == [[1 + 15, 3, 2], [2 + 20, 4, 4]] and found.shape == (2, 3, 1, 1)
