"""The default distillation nodes are PaddleSlim's."""

from __future__ import annotations

import paddle
import pytest

from picoquant.quantization.engine.session import quiet
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks.paddle_static import graph_of, static_session


@pytest.mark.skipif(paddle_3(), reason="PaddleSlim 2.6.0 is for Paddle 2")
@pytest.mark.parametrize("bias", [False, True])
def test_same_choice_as_paddleslim(bias):
    with quiet():
        from paddleslim.common.patterns import find_final_nodes

        from picoquant.quantization.final_nodes import final_nodes
    with static_session():
        # Two branches, one ending in batch-norm, one in a convolution whose bias is stored as it is added.
        image = paddle.static.data("image", [1, 3, 8, 8])
        body = paddle.nn.functional.relu(paddle.static.nn.conv2d(image, 4, 3))
        first = paddle.static.nn.batch_norm(paddle.static.nn.conv2d(body, 4, 1, bias_attr=False))
        second = paddle.static.nn.conv2d(body, 2, 1, bias_attr=None if bias else False)
        outputs = [paddle.nn.functional.sigmoid(first), paddle.nn.functional.sigmoid(second)]
        program = paddle.static.default_main_program().clone(for_test=True)
        names = final_nodes(graph_of(program, ["image"], [one.name for one in outputs]))
        assert names == [node.name() for node in find_final_nodes(program)]
        assert len(names) == len(outputs)
