"""Weights moved to better quantised values; the algorithm is tested in `test_adaptive_rounding.py`."""

from __future__ import annotations

import numpy as np

from picoquant.int8.passes.weights import quantise_weight
from picoquant.quantization.ptq.passes.choose_ranges import choose_ranges
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.observe import observe
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.passes.round_weights import round_weights
from picoquant.quantization.ptq.pipeline import run_passes


def test_some_quantised_values_change_and_no_range_does(small_state):
    quant = {"weight_bits": 4}
    state = run_passes((fold_batch_norm, place_quantisers, observe, choose_ranges), small_state(quant))
    before = {one.weight: state.model.values[one.weight] for one in state.operators}
    after = run_passes((round_weights,), state)
    assert after.float_params.keys() == before.keys() and after.ranges == state.ranges
    changed = 0
    for operator in state.operators:
        name = operator.weight
        np.testing.assert_array_equal(after.float_params[name], before[name])
        old, old_ranges = quantise_weight(before[name], operator.axis, 4)
        new, new_ranges = quantise_weight(state.model.values[name], operator.axis, 4)
        np.testing.assert_array_equal(new_ranges, old_ranges)
        changed += int((new != old).sum())
    assert changed > 10
