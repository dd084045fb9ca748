"""Pass: histograms and channel means of the activations, measured on the calibration images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from picoquant.quantization.ptq.activation_functions import effective_minimum
from picoquant.quantization.ptq.float_network import calibration_values
from picoquant.quantization.ptq.histograms import Histogram
from picoquant.quantization.ptq.state import PtqState, Statistics
from picoquant.utils.background import in_background


def observe(state: PtqState) -> PtqState:
    """Run the float network over the calibration images and collect what ranges and biases are chosen from.

    Raises: `DataError` for a tensor that is not finite; `WeightsError` naming an operator that cannot be run.
    """
    graph = state.model.graph()
    names = [*state.tensors.names, *state.tensors.fused]
    histograms = {name: Histogram() for name in state.tensors.names}
    fused_absmax = dict.fromkeys(state.tensors.fused, 0.0)
    means = ChannelMeans({operator.activation for operator in state.operators})
    minima = {name: effective_minimum(graph, state.model.values, name) for name in state.tensors.names}

    def add(name: str, value: np.ndarray) -> None:
        if name in fused_absmax:
            fused_absmax[name] = max(fused_absmax[name], float(np.abs(value).max()))
            return
        minimum = minima[name]
        histograms[name].add(value if minimum is None else np.maximum(value, minimum[:, None, None]))
        means.add(name, value)

    with in_background() as call:
        for name, value in calibration_values(state, names, "quantize: calibrating"):
            call(add, name, value)
    statistics = Statistics(histograms, means.by_name(), fused_absmax)
    return replace(state, statistics=statistics, images=state.context.images.images)


class ChannelMeans:
    """The mean of each channel of some tensors over all batches, summed in float64.

    Args:
        names: of the tensors; others, and those that are not `[N, C, H, W]`, are ignored.
    """

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self._sums: dict[str, np.ndarray] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: np.ndarray) -> None:
        """Add a batch of a tensor."""
        if name in self._names and value.ndim == 4:
            self._sums[name] = self._sums.get(name, 0) + value.sum(axis=(0, 2, 3), dtype=np.float64)
            self._counts[name] = self._counts.get(name, 0) + value.size // value.shape[1]

    def by_name(self) -> dict[str, np.ndarray]:
        """`[C]` float64 of each tensor that was added."""
        return {name: total / self._counts[name] for name, total in self._sums.items()}
