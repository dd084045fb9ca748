"""The weight gradient in two parts is that of the definition."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.training.fast import fast_convolutions_available, traced

pytestmark = pytest.mark.skipif(not fast_convolutions_available(), reason="this paddle has no oneDNN")


class Depthwise(nn.Layer):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2D(16, 16, 1, bias_attr=False)
        self.depthwise = nn.Conv2D(16, 16, 5, stride, 2, groups=16, bias_attr=False)

    def forward(self, image):
        return self.depthwise(self.first(image))


def by_definition(image: np.ndarray, gradient: np.ndarray, stride: int) -> np.ndarray:
    """Weight gradient (C, 1, 5, 5): what each tap was multiplied by, summed over images and places."""
    padded = np.pad(image, [(0, 0), (0, 0), (2, 2), (2, 2)]).astype(np.float64)
    height, width = gradient.shape[2:]
    taps = np.zeros([image.shape[1], 1, 5, 5])
    for row in range(5):
        for column in range(5):
            seen = padded[
                :, :, row : row + stride * height : stride, column : column + stride * width : stride
            ]
            taps[:, 0, row, column] = (seen[:, :, :height, :width] * gradient).sum(axis=(0, 2, 3))
    return taps


@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradient_is_that_of_the_definition_on_maps_of_any_size(stride):
    paddle.seed(0)
    random = np.random.RandomState(0)
    layer = Depthwise(stride)
    run = traced(layer.forward, (paddle.zeros([2, 16, 8, 8]),), [[None, 16, None, None]])
    for size in ([13, 10], [7, 7], [1, 1], [2, 3], [1, 6]):
        image = random.randn(2, 16, *size).astype("float32")
        out = run(paddle.to_tensor(image))
        gradient = random.randn(*out.shape).astype("float32")
        (out * paddle.to_tensor(gradient)).sum().backward()
        seen = np.einsum("oi,nihw->nohw", layer.first.weight.numpy()[:, :, 0, 0], image)
        expected = by_definition(seen, gradient, stride)
        found = layer.depthwise.weight.grad.numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=str(size))
        layer.clear_gradients()
        assert found.shape == (16, 1, 5, 5)
