"""Folding counts its batch-norms and leaves what the network computes."""

from __future__ import annotations

import numpy as np

from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.pipeline import run_passes
from tests.networks.small_net import batches


def test_the_network_computes_the_same_without_batch_norm(small_state, values_of):
    state, feed = small_state(), next(batches(100))
    before = values_of(state, [], feed)
    folded = run_passes((fold_batch_norm,), state)
    assert (state.folded, folded.folded) == (0, 3)
    assert "batch_norm" not in {op.type for op in folded.model.operators}
    for value, expected in zip(values_of(folded, [], feed), before):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
