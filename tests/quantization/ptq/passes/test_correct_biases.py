"""Bias correction from observed means; the algorithm is tested in `equalisation/test_equalise.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from picoquant.int8.passes.weights import rounded_weight
from picoquant.quantization.ptq.passes.correct_biases import correct_biases
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.observe import observe
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.pipeline import run_passes
from tests.networks.small_net import batches


def test_the_heads_means_are_taken_back(small_state, values_of):
    """Of the last layer (1x1, without padding) the mean over the calibration images becomes that of the float one."""
    state = run_passes((fold_batch_norm, place_quantisers, observe), small_state({"weight_bits": 3}))
    head = state.operators[-1]
    feeds = batches(0)
    feeds = [next(feeds), next(feeds)]

    def mean():
        return np.concatenate([values_of(state, [], feed)[1] for feed in feeds]).mean((0, 2, 3))

    exact, weight = mean(), state.model.values[head.weight]
    corrected = run_passes((correct_biases,), state)
    biases = corrected.float_params
    assert len(biases) == len(state.operators)
    assert all(not np.array_equal(state.model.values[name], value) for name, value in biases.items())
    # The other layers as they were; of the last one the bias is corrected and the weight rounded.
    own = next(name for name in biases if state.model.values[name].shape == (4,))
    for name in set(biases) - {own}:
        state.model.write(name, biases[name])
    state.model.write(head.weight, rounded_weight(weight, head.axis, 3))
    shift = np.abs(mean() - exact)
    state.model.write(own, biases[own])
    assert shift.max() < 1e-3 * np.abs(mean() - exact).max()


def test_what_was_changed_before_is_kept(small_state):
    state = run_passes((fold_batch_norm, place_quantisers, observe), small_state())
    known = {"conv2d_0.w_0": state.model.values["conv2d_0.w_0"]}
    after = run_passes((correct_biases,), replace(state, float_params=known))
    assert set(known) < set(after.float_params) and len(after.float_params) == 1 + len(state.operators)
