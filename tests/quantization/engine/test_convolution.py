"""Convolutions on oneDNN, values and gradients, beside Paddle's own."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from picoquant.paddle_program.graph import Operator
from picoquant.quantization.engine.convolution import Convolutions


def convolution(size, stride, groups):
    where = {"strides": (stride, stride), "paddings": (size // 2, size // 2), "dilations": (1, 1)}
    attributes = {**where, "groups": groups, "padding_algorithm": "EXPLICIT"}
    return Operator("y", "conv2d", (), (), attributes)


def tensors(*shapes):
    random = np.random.RandomState(0)
    return [
        paddle.to_tensor(random.randn(*shape).astype(np.float32), stop_gradient=False) for shape in shapes
    ]


def results(compute, inputs):
    """The value, and the gradients of what has any."""
    for one in inputs:
        one.clear_gradient(False)
    value = compute(*inputs)
    (value * value).sum().backward()
    return [value.numpy(), *(one.grad.numpy() for one in inputs if not one.stop_gradient)]


@pytest.mark.parametrize("activation", ["", "relu", "relu6"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("size", "stride", "groups", "side"),
    [(1, 1, 1, 13), (3, 2, 1, 16), (5, 1, 16, 13), (5, 2, 16, 14), (3, 1, 16, 1)],
)
def test_values_and_gradients(size, stride, groups, side, bias, activation):
    inputs = tensors([2, 16, side, side], [16, 16 // groups, size, size], *([[16]] if bias else []))
    op, own = convolution(size, stride, groups), Convolutions(onednn=True)
    after = {"": lambda value: value, "relu": F.relu, "relu6": F.relu6}[activation]

    def plain(image, weight, stored=None):
        return after(F.conv2d(image, weight, stored, stride, size // 2, 1, groups))

    def ours(image, weight, stored=None):
        return own(op, activation, image, weight, stored)

    expected = results(plain, inputs)
    for _ in range(2):  # the second time by the traced graph
        for found, value in zip(results(ours, inputs), expected):
            np.testing.assert_allclose(found, value, atol=2e-5 * np.abs(value).max())


def test_a_graph_that_ran_without_gradients_has_them_later():
    image, weight = tensors([2, 8, 6, 6], [8, 8, 1, 1])
    op, own = convolution(1, 1, 1), Convolutions(onednn=True)
    with paddle.no_grad():
        before = own(op, "relu", image, weight, None).numpy()
    found = results(lambda *inputs: own(op, "relu", *inputs, None), [image, weight])
    expected = results(lambda *inputs: F.relu(F.conv2d(*inputs)), [image, weight])
    np.testing.assert_allclose(before, expected[0], rtol=1e-4, atol=1e-5)
    for one, value in zip(found, expected):
        np.testing.assert_allclose(one, value, atol=2e-5 * np.abs(value).max())


def test_other_numbers_and_sizes_of_images_use_the_same_graph():
    _, weight = tensors([1], [8, 4, 3, 3])
    op, own = convolution(3, 2, 1), Convolutions(onednn=True)
    for count, side in ((1, 8), (3, 11), (1, 8)):
        (image,) = tensors([count, 4, side, side])
        found = own(op, "", image, weight, None).numpy()
        expected = F.conv2d(image, weight, None, 2, 1).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert len(own._traced) == 1


def test_a_weight_that_has_changed_is_seen():
    """In inference Paddle keeps a convolution's weight as oneDNN wants it, and would not notice."""
    image, weight = tensors([2, 8, 6, 6], [8, 8, 3, 3])
    op, own = convolution(3, 1, 1), Convolutions(onednn=True)
    for _ in range(3):
        with paddle.no_grad():
            found = own(op, "relu", image, weight, None).numpy()
            expected = F.relu(F.conv2d(image, weight, None, 1, 1)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        weight.set_value(-0.5 * weight.numpy())
