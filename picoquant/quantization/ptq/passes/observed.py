"""What calibration images show of a network's activations, measured by one process or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from picoquant.quantization.ptq.activation_functions import effective_minimum
from picoquant.quantization.ptq.float_network import Part, calibration_parts
from picoquant.quantization.ptq.histograms import Histogram
from picoquant.quantization.ptq.state import PtqState, Statistics
from picoquant.storage.checkpoints import Checkpoint, packed, unpacked

_AXES = 4  # of `[N, C, H, W]`


@dataclass(frozen=True)
class Observations:
    """Of the images that one process has run, or of those of several.

    Attributes:
        histograms: of each activation that is held in INT8.
        fused_absmax: of each tensor inside a fused convolution.
        means: of the quantised operators' inputs.
    """

    histograms: dict[str, Histogram]
    fused_absmax: dict[str, float]
    means: ChannelMeans

    @classmethod
    def of(cls, state: PtqState, world: int = 1) -> Observations:
        """Run the float network over the batches number 0, `world` … of the images that this process has.

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
            whole = value if minimum is None else np.maximum(value, minimum[:, None, None])
            if len(value) == part.images:
                of_image = value.size // len(value)
                found.add(whole, part.first * of_image, part.total * of_image)
            else:  # the images are not its first axis
                found.add(whole)
            return found, means.measure(name, value)

        for seen in calibration_parts(state, names, measure, "quantize: calibrating", world):
            for name, found in seen.items():
                if name in fused_absmax:
                    fused_absmax[name] = max(fused_absmax[name], found)
                else:
                    histograms[name].merge(found[0])
                    means.merge(*found[1])
        return cls(histograms, fused_absmax, means)

    def statistics(self) -> Statistics:
        """What was found."""
        return Statistics(self.histograms, self.means.by_name(), self.fused_absmax)

    def packed(self) -> bytes:
        """All of it, for `merge` in another process."""
        arrays = {"means": self.means.sums, "counts": {}}
        facts = {"fused_absmax": self.fused_absmax, "counts": self.means.counts, "histograms": {}}
        for name, one in self.histograms.items():
            places = np.flatnonzero(one.counts)
            arrays["counts"][name] = np.stack([places, one.counts[places]])
            facts["histograms"][name] = one.bound, one.low, one.high
        return packed(Checkpoint(arrays, facts))

    def merge(self, content: bytes) -> None:
        """Add what another process has found.

        Args:
            content: its `packed`.
        """
        found = unpacked(content)
        for name, (bound, low, high) in found.progress["histograms"].items():
            one = Histogram()
            places, counts = found.arrays["counts"][name]
            one.bound, one.low, one.high = bound, low, high
            one.counts[places] = counts
            self.histograms[name].merge(one)
        for name, value in found.progress["fused_absmax"].items():
            self.fused_absmax[name] = max(self.fused_absmax[name], value)
        self.means.merge(found.arrays.get("means", {}), found.progress["counts"])


class ChannelMeans:
    """The mean of each channel of some tensors over all batches, summed in float64.

    Args:
        names: of the tensors; others, and those that are not `[N, C, H, W]`, are ignored.

    Attributes:
        sums: `[C]` float64 of each tensor that was added.
        counts: how many values each of its channels had.
    """

    def __init__(self, names: set[str]) -> None:
        self._names = names
        self.sums: dict[str, np.ndarray] = {}
        self.counts: dict[str, int] = {}

    def measure(self, name: str, value: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """What `merge` takes of some images of a tensor; others may be measured at the same time."""
        if name not in self._names or value.ndim != _AXES:
            return {}, {}
        return {name: value.sum(axis=(0, 2, 3), dtype=np.float64)}, {name: value.size // value.shape[1]}

    def merge(self, sums: dict[str, np.ndarray], counts: dict[str, int]) -> None:
        """Add sums of others."""
        for name, total in sums.items():
            self.sums[name] = self.sums.get(name, 0) + total
            self.counts[name] = self.counts.get(name, 0) + counts[name]

    def by_name(self) -> dict[str, np.ndarray]:
        """`[C]` float64 of each tensor that was added."""
        return {name: total / self.counts[name] for name, total in self.sums.items()}
