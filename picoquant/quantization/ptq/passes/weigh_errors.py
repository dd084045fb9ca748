"""Pass: histograms of the activations in which each value counts as much as an error of it costs the detections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from picoquant.quantization.ptq.float_network import differentiable
from picoquant.quantization.ptq.histograms import Histogram
from picoquant.quantization.ptq.sensitivity import observe_gradients
from picoquant.quantization.ptq.state import PtqState


def weigh_errors(state: PtqState) -> PtqState:
    """Run the float network over some calibration images and back, and add the histograms to the statistics.

    Raises: `WeightsError` naming an operator that cannot be run.
    """
    found: dict[str, Histogram] = {}
    with differentiable(state, "quantize: what errors cost") as (network, error, feeds):
        names = network.computable(state.tensors.names)
        for seen in observe_gradients(network, error, feeds, names):
            for name, value in seen.values.items():
                histogram = found.setdefault(name, Histogram(weighted=True))
                histogram.add(value, np.square(seen.gradients[name]))
    return replace(state, statistics=replace(state.statistics, weighted=found))
