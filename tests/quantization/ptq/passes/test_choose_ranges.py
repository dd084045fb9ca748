"""Ranges from histograms; the methods are tested in `test_range_search.py`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.int8.quant_params import SMALLEST_RANGE
from picoquant.quantization.ptq.histograms import Histogram
from picoquant.quantization.ptq.passes.choose_ranges import choose_ranges
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.pipeline import run_passes
from picoquant.quantization.ptq.state import Statistics


@pytest.fixture
def observed(small_state):
    """`observed(**settings)`: every tensor has been seen from -1 to 2, in all steps of a hundredth."""

    def make(**own):
        state = run_passes((fold_batch_norm, place_quantisers), small_state(**own))
        histograms = {name: Histogram() for name in state.tensors.names}
        for histogram in histograms.values():
            histogram.add(np.linspace(-1, 2, 301, dtype=np.float32))
        return replace(state, statistics=Statistics(histograms, {}, dict.fromkeys(state.tensors.fused, 30.0)))

    return make


def test_min_max_clips_nothing_and_fused_tensors_keep_their_reach(observed):
    state = run_passes((choose_ranges,), observed(ranges="min_max"))
    assert state.ranges.keys() == {*state.tensors.names, *state.tensors.fused}
    assert {state.ranges[name] for name in state.tensors.fused} == {30.0}
    # The sigmoid's input may be clipped where that is not felt behind it; all others are kept whole.
    others = [name for name in state.tensors.names if state.ranges[name] == pytest.approx(2.0, rel=1e-6)]
    assert len(others) >= len(state.tensors.names) - 1


def test_a_percentile_is_taken_from_the_settings(observed):
    state = run_passes((choose_ranges,), observed(ranges="percentile", percentile=80.0))
    # Of 301 magnitudes 201 are at most 1, and 40 more (80 % of all) at most 1.4.
    assert state.ranges["image"] == pytest.approx(1.4, abs=0.02)


def test_a_tensor_of_zeros_gets_a_range_that_can_be_divided_by(observed, caplog):
    state = observed(ranges="min_max")
    zeros = Histogram()
    zeros.add(np.zeros(9, np.float32))
    histograms = {**state.statistics.histograms, "image": zeros}
    state = run_passes(
        (choose_ranges,), replace(state, statistics=replace(state.statistics, histograms=histograms))
    )
    assert state.ranges["image"] == SMALLEST_RANGE
    assert "1 tensors are 0 for all calibration images (image" in caplog.text
