"""Pass: the range of each activation chosen from what calibration measured."""

from __future__ import annotations

import logging
from dataclasses import replace

from picoquant.quantization.ptq import range_search
from picoquant.quantization.ptq.activation_functions import function_behind
from picoquant.quantization.ptq.range_search import without_zeros
from picoquant.quantization.ptq.state import PtqState
from picoquant.weight_files.quantised import read_ranges

LOG = logging.getLogger("picoquant")


def choose_ranges(state: PtqState) -> PtqState:
    """Choose one range for each group of tensors that share a scale, as `Quantize.ranges` says.

    Tensors inside a fused convolution keep all that they reach: an NPU never holds them.
    """
    settings, statistics = state.context.settings.quantization, state.statistics
    graph = state.model.graph()
    functions = {name: function_behind(graph, name) for name in state.tensors.names}
    ranges, zeros = range_search.choose_ranges(
        state.tensors.groups,
        statistics.histograms,
        functions,
        statistics.gradients,
        "mse" if settings.ranges == "weights" else settings.ranges,
        settings.percentile,
        state.quant.symmetric_activations,
        state.quant.activation_bits,
    )
    if settings.ranges == "weights":
        given = _of_weights(state)  # symmetric
        ranges.update(given)
        zeros = {name: zero for name, zero in zeros.items() if name not in given}
    ranges = without_zeros({**ranges, **statistics.fused_absmax})
    return replace(state, ranges=ranges, zero_points=zeros)


def _of_weights(state: PtqState) -> dict[str, float]:
    """The ranges that came with the weights; tensors that share a scale take the largest of them.

    Raises: `UserError` when the model has none.
    """
    given = read_ranges(state.context.paths.student)
    known: dict[str, float] = {}
    for operator in state.operators:
        if operator.weight in given:
            known[operator.activation] = max(given[operator.weight], known.get(operator.activation, 0.0))
    found: dict[str, float] = {}
    for group in state.tensors.groups:
        values = [known[name] for name in group if name in known]
        if values:
            found.update(dict.fromkeys(group, max(values)))
    LOG.info(
        "quantize: the ranges of %d of %d tensors are those that came with the weights",
        len(found),
        len(state.tensors.names),
    )
    return found
