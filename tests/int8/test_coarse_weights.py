"""Weights of which one scale leaves nothing are named; what is well held, pruned or has a scale a channel is not."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.int8.coarse_weights import CoarseWeight, coarse_weights
from picoquant.int8.network import Int8Network, QuantizedOperator
from picoquant.int8.quant_params import QuantParams
from picoquant.quantization.ptq.passes.write import write
from picoquant.quantization.ptq.pipeline import SCALES, preparation, run_passes
from tests.quantization.ptq.states import context_of, load_state

# The largest level of each of five channels.
HELD, LOST, LOW, OFF = [127, 90, 60, 50, 40], [0, 0, 127, 1, 0], [4, 3, 127, 5, 2], [127, 0, 0, 0, 60]


def network_of(levels, op_type="conv2d", axis=-1, floats=None):
    integers = np.zeros((5, 3, 1, 1), np.int8)
    integers[:, 1, 0, 0] = [-level for level in levels]
    scale = np.full(5, 0.1) if axis >= 0 else 0.1
    params = QuantParams(scale, axis=axis)
    operator = QuantizedOperator(op_type, "out", "in", "w", integers, params)
    values = (
        integers * 0.1 if floats is None else np.float32(floats).reshape(5, 1, 1, 1) * np.ones((5, 3, 1, 1))
    )
    return Int8Network(None, {}, (operator,), {}, float_params={"w": values})


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (network_of(LOST, floats=[0.01, 0.02, 12.7, 0.1, 0.03]), [CoarseWeight("w", 2, 0)]),
        (network_of(LOW), []),  # the middle one has 4 levels
        (network_of([3, 3, 127, 5, 2]), [CoarseWeight("w", 2, 3)]),
        (network_of(HELD), []),
        (network_of(OFF), []),  # three channels have no weights at all
        (network_of(LOST, axis=0, floats=[1, 1, 1, 1, 1]), []),
        (network_of(LOST, op_type="matmul_v2", floats=[1, 1, 1, 1, 1]), []),
    ],
)
def test_what_is_named(network, found):
    assert coarse_weights(network) == found


@pytest.mark.parametrize(("scales", "said"), [("abs_max", True), ("channel_wise_abs_max", False)])
def test_quantisation_says_so(small_model, tmp_path, caplog, scales, said):
    context = context_of(
        small_model, tmp_path, quant={"weight_quantize_type": scales}, cross_layer_equalisation=False
    )
    state = load_state(context)
    name = next(op.input("Filter0") for op in state.model.graph().operators if op.op_type.endswith("conv2d"))
    weight = state.model.values[name].copy()
    weight[1] *= 1000
    state.model.write(name, weight)
    state.model.save(context.paths.student)
    settings = context.settings.quantization
    run_passes((*preparation(settings, True)[1:], *SCALES, write), state)  # batch-norm would undo it
    expected = f"quantize: {name}: channel 1 takes nearly all of the weight's one scale"
    assert (expected in caplog.text) == said
