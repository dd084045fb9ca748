"""What is measured on the calibration images equals what NumPy computes from all of them."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.observe import observe
from picoquant.quantization.ptq.passes.observed import ChannelMeans
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.pipeline import run_passes
from tests.networks.small_net import batches


def test_statistics_of_two_batches(small_state, values_of):
    state = run_passes((fold_batch_norm, place_quantisers, observe), small_state())
    names = [*state.tensors.names, *state.tensors.fused]
    feeds = batches(0)
    parts = [values_of(state, names, next(feeds)) for _ in range(2)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in names}
    found = state.statistics
    assert state.images == 4
    assert found.histograms.keys() == set(state.tensors.names)
    for name, histogram in found.histograms.items():
        assert histogram.counts.sum() == values[name].size
        assert (histogram.low, histogram.high) == (values[name].min(), values[name].max())
    assert found.fused_absmax == {name: np.abs(values[name]).max() for name in state.tensors.fused}
    assert found.channel_means.keys() == {operator.activation for operator in state.operators}
    for name, mean in found.channel_means.items():
        np.testing.assert_allclose(mean, values[name].mean((0, 2, 3), dtype=np.float64), rtol=1e-6)


def test_channel_means_weigh_batches_by_their_size():
    means = ChannelMeans({"a"})
    for name, images, value in (("a", 1, 4.0), ("a", 3, 8.0), ("b", 1, 9.0)):
        means.merge(*means.measure(name, np.full((images, 1, 1, 1), value, np.float32)))
    assert means.by_name() == {"a": [pytest.approx(7.0)]}  # (4 + 3 * 8) / 4
