"""Tensors as arrays in the same memory."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.quantization.engine.arrays import as_array

VIEWS = {
    "itself": lambda x: x,
    "reshaped": lambda x: paddle.reshape(x, [2, 24, 20]),
    "transposed": lambda x: paddle.transpose(paddle.reshape(x, [2, 24, 20]), [0, 2, 1]),
    "a part": lambda x: paddle.slice(x, [1, 2], [1, 1], [5, 3]),
    "every second": lambda x: x[:, ::2],
    "split": lambda x: paddle.split(x, 2, 1)[1],
    "repeated": lambda x: paddle.expand(x[:1], [3, 24, 4, 5]),
    "one value": lambda x: x.max(),
}


@pytest.mark.parametrize("view", VIEWS)
def test_the_array_holds_what_a_copy_would(view: str):
    tensor = VIEWS[view](paddle.randn([2, 24, 4, 5]))
    np.testing.assert_array_equal(as_array(tensor), tensor.numpy())


def test_the_array_outlives_its_tensor():
    arrays, copies = [], []
    for _ in range(20):
        tensor = paddle.randn([4, 32, 20, 20])
        arrays.append(as_array(tensor))
        copies.append(tensor.numpy())
        del tensor
        paddle.zeros([4, 32, 20, 20])
    np.testing.assert_array_equal(arrays, copies)


def test_a_gradient_and_a_tensor_that_has_one():
    value = paddle.randn([3, 4])
    value.stop_gradient = False
    (value**2).sum().backward()
    np.testing.assert_allclose(as_array(value.grad), 2 * as_array(value), rtol=1e-6)
