"""Pass: what errors of the activations cost the detections, measured on calibration images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from picoquant.quantization.ptq.activation_functions import function_behind
from picoquant.quantization.ptq.float_network import differentiable
from picoquant.quantization.ptq.gradient_histogram import GradientHistogram
from picoquant.quantization.ptq.range_search import effective_absmax
from picoquant.quantization.ptq.sensitivity import Observed, each_observed
from picoquant.quantization.ptq.state import PtqState

_AT_ONCE = 4  # where images are computed one batch after the other


def weigh_errors(state: PtqState) -> PtqState:
    """Run the float network over images and back, and sum the gradients by value, see `GradientHistogram`.

    Where an activation alone uses a tensor, the gradients are those behind it: there an error of the tensor is known
    exactly, while the gradient in front is 0 where the activation is flat, also where a range would clip beyond that.

    Raises: `WeightsError` naming an operator that cannot be run.
    """
    graph, histograms = state.model.graph(), state.statistics.histograms
    behind, found = {}, {}
    for name, histogram in histograms.items():
        function = function_behind(graph, name)
        bound = effective_absmax(histogram, function) if histogram.absmax > 0 else 0.0
        if bound > 0:
            behind[name] = name if function is None else graph.users(name)[0].results[0]
            found[name] = GradientHistogram(bound)

    def measure(seen: Observed) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
        return {
            name: found[name].measure(seen.values[name], seen.gradients[result])
            for name, result in behind.items()
            if name in seen.values and result in seen.gradients
        }

    clipping = differentiable(state, "quantize: what clipping costs", _AT_ONCE)
    with clipping as (network, error, feeds):
        names = network.computable(dict.fromkeys([*behind, *behind.values()]))
        for measured in each_observed(network, error, feeds, names, measure, state.model):
            for name, images in measured.items():
                found[name].merge(images)
    known = {name: one for name, one in found.items() if one.images}
    return replace(state, statistics=replace(state.statistics, gradients=known))
