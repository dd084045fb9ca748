"""Ignored layers get no quantiser."""

from __future__ import annotations

import pytest

from picoquant.errors import ConfigError
from picoquant.quantization.ptq.passes.ignore_layers import ignore_layers
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.pipeline import run_passes


def test_an_ignored_layer_is_not_quantised(small_state):
    state = run_passes((ignore_layers, place_quantisers), small_state(keep_float=("conv2d_[12]",)))
    assert [operator.weight for operator in state.operators] == [
        "conv2d_0.w_0",
        "conv2d_3.w_0",
        "conv2d_4.w_0",
    ]
    # What the settings ask for stays; only the state leaves the marked layers out.
    assert state.context.settings.quant.not_quant_pattern == ("skip_quant",)


def test_a_layer_that_is_not_there_is_named(small_state):
    with pytest.raises(ConfigError, match=r"Quantize\.keep_float: no layer is called conv2d_9; nearest: "):
        run_passes((ignore_layers,), small_state(keep_float=("conv2d_9",)))
