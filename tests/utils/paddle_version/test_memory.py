"""Values of tensors where they lie."""

from __future__ import annotations

import paddle

from picoquant.utils.paddle_version.memory import float32_view


def test_what_is_written_is_in_the_tensor():
    tensor = paddle.to_tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    view = float32_view(tensor)
    assert view.tolist() == [[1, 2, 3], [4, 5, 6]]
    view[1, 0] = 7
    assert tensor.numpy().tolist() == [[1, 2, 3], [7, 5, 6]]
