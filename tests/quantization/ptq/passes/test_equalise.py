"""Equalisation by what the calibration images show; the algorithm is tested in `equalisation/test_equalise.py`."""

from __future__ import annotations

import numpy as np
from paddle.nn.functional import relu, relu6

from picoquant.quantization.ptq.passes.equalise import equalise
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.pipeline import run_passes
from tests.quantization.ptq.passes.conftest import UNEVEN_FEED


def test_channels_are_equalised_and_outputs_stay(uneven_state, values_of, caplog):
    caplog.set_level("INFO", logger="picoquant")
    folded = run_passes((fold_batch_norm,), uneven_state(relu, ""))
    (before,) = values_of(folded, [], UNEVEN_FEED)
    state = run_passes((equalise,), folded)
    assert len(state.equalised) == 1 and "channels of 1 tensors made even" in caplog.text
    # The weight and bias of the first convolution, the weight of the second one.
    assert len(state.weight_scales) == 3
    first = next(scale for scale in state.weight_scales.values() if scale.ndim == 1)
    assert first.max() / first.min() > 100
    (after,) = values_of(state, [], UNEVEN_FEED)
    np.testing.assert_allclose(after, before, atol=1e-3 * np.abs(before).max())


def test_where_no_factor_can_pass_nothing_changes(uneven_state):
    state = run_passes((fold_batch_norm, equalise), uneven_state(relu6, ""))
    assert (state.equalised, state.weight_scales) == ((), {})
