"""Pass: histograms and channel means of the activations, measured on the calibration images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from picoquant.quantization.ptq.activation_functions import effective_minimum
from picoquant.quantization.ptq.float_network import Part, calibration_parts
from picoquant.quantization.ptq.histograms import Histogram
from picoquant.quantization.ptq.state import PtqState, Statistics

_AXES = 4  # of `[N, C, H, W]`


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

    def measure(name: str, value: np.ndarray, part: Part) -> Any:
        if name in fused_absmax:
            return max(float(value.max()), -float(value.min()))
        found, minimum = Histogram(), minima[name]
        of_image = value.size // len(value)
        whole = value if minimum is None else np.maximum(value, minimum[:, None, None])
        if len(value) == part.images:
            found.add(whole, part.first * of_image, part.total * of_image)
        else:  # the images are not its first axis
            found.add(whole)
        return found, means.measure(name, value)

    for seen in calibration_parts(state, names, measure, "quantize: calibrating"):
        for name, found in seen.items():
            if name in fused_absmax:
                fused_absmax[name] = max(fused_absmax[name], found)
            else:
                histograms[name].merge(found[0])
                means.merge(name, found[1])
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

    def measure(self, name: str, value: np.ndarray) -> tuple[np.ndarray, int] | None:
        """What `merge` takes of some images of a tensor; others may be measured at the same time."""
        if name not in self._names or value.ndim != _AXES:
            return None
        return value.sum(axis=(0, 2, 3), dtype=np.float64), value.size // value.shape[1]

    def merge(self, name: str, measured: tuple[np.ndarray, int] | None) -> None:
        """Add images that were measured."""
        if measured is not None:
            self._sums[name] = self._sums.get(name, 0) + measured[0]
            self._counts[name] = self._counts.get(name, 0) + measured[1]

    def by_name(self) -> dict[str, np.ndarray]:
        """`[C]` float64 of each tensor that was added."""
        return {name: total / self._counts[name] for name, total in self._sums.items()}
