"""Pass: biases corrected by what rounding the weights shifts the means of the results."""

from __future__ import annotations

from dataclasses import replace

from picoquant.quantization.ptq.bias_correction import correct_biases as correct
from picoquant.quantization.ptq.state import PtqState


def correct_biases(state: PtqState) -> PtqState:
    """Correct the bias behind each convolution whose weight is rounded; see `bias_correction`."""
    before = correct(
        state.model,
        state.operators,
        state.statistics.channel_means,
        state.quant.weight_bits,
        exact=state.float_params,
    )
    return replace(state, float_params={**state.float_params, **before})
