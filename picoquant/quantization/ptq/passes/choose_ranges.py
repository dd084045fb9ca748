"""Pass: the range of each activation chosen from what calibration measured."""

from __future__ import annotations

from dataclasses import replace

from picoquant.quantization.ptq import range_search
from picoquant.quantization.ptq.activation_functions import function_behind
from picoquant.quantization.ptq.range_search import without_zeros
from picoquant.quantization.ptq.state import PtqState


def choose_ranges(state: PtqState) -> PtqState:
    """Choose one range for each group of tensors that share a scale, as `Quantize.ranges` says.

    Tensors inside a fused convolution keep all that they reach: an NPU never holds them.
    """
    settings, statistics = state.context.settings.quantization, state.statistics
    graph = state.model.graph()
    functions = {name: function_behind(graph, name) for name in state.tensors.names}
    ranges = range_search.choose_ranges(
        state.tensors.groups,
        statistics.histograms,
        functions,
        statistics.gradients,
        settings.ranges,
        settings.percentile,
    )
    return replace(state, ranges=without_zeros({**ranges, **statistics.fused_absmax}))
