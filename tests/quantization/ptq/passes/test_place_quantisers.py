"""Which operators and tensors are quantised, and which share a scale."""

from __future__ import annotations

import numpy as np
import pytest
from paddle.nn.functional import hardswish

from picoquant.errors import WeightsError
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.pipeline import run_passes


def test_every_convolution_and_every_tensor_outside_a_fused_one(small_state):
    state = run_passes((fold_batch_norm, place_quantisers), small_state())
    kinds = [operator.op_type for operator in state.operators]
    assert kinds == ["conv2d", "depthwise_conv2d", "conv2d", "conv2d", "conv2d"]
    # The image; three convolutions with ReLU6; two heads, and the sigmoid behind one; the outputs, which are copies.
    assert len(state.tensors.names) == 1 + 3 + 2 + 1 + 2
    assert sorted(len(group) for group in state.tensors.groups) == [1, 1, 1, 1, 1, 2, 2]
    # Of each convolution the result before its bias; of the first three that before ReLU6, too.
    assert len(state.tensors.fused) == 5 + 3
    (sigmoid,) = state.products
    assert sigmoid.function(np.float32([0.0])) == 0.5


def test_a_concat_shares_one_scale(uneven_state):
    state = run_passes((fold_batch_norm, place_quantisers), uneven_state(hardswish, "concat"))
    (group,) = [group for group in state.tensors.groups if len(group) > 2]
    types = {name: op.type for op in state.model.operators for name in op.outputs}
    assert {"hard_swish", "concat"} <= {types[name] for name in group}


def test_a_network_without_such_operators_is_refused(small_state):
    with pytest.raises(WeightsError, match="no operator with weights of the types matmul"):
        run_passes((place_quantisers,), small_state(quant={"quantize_op_types": ["matmul"]}))
