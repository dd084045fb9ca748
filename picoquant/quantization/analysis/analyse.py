"""The analysis of a network: each layer alone, all of them together, and every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from picoquant.errors import DataError
from picoquant.int8.quant_params import QuantParams
from picoquant.quantization.analysis.layers import Layer
from picoquant.quantization.analysis.network import Network, min_max_ranges, observe
from picoquant.quantization.analysis.noise import Noise
from picoquant.quantization.analysis.quantities import Quantities, plain_outputs
from picoquant.quantization.analysis.statistics import Saturation, Values
from picoquant.quantization.analysis.variants import FORMS, LayersAlone
from picoquant.quantization.engine.arrays import as_array
from picoquant.quantization.score import Score

Feeds = Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs.

    Attributes:
        layer: the layer.
        alone: by form (`both`, `weights`, `activations`) and quantity (`scores`, `boxes` ...), signal-to-noise
            of the network's outputs in dB when this layer alone is in INT8; infinite: no error.
        built_up: signal-to-noise of the layer's result in the fully quantised network, dB; NaN: not known.
        score_alone: how well the network detects with this layer alone in INT8; None: not measured.
    """

    layer: Layer
    alone: Mapping[str, Mapping[str, float]]
    built_up: float
    score_alone: Score | None = None

    def worst(self, form: str = "both") -> float:
        """Signal-to-noise of the quantity with the largest error, dB."""
        return float(np.nanmin([*self.alone[form].values(), np.inf]))


@dataclass(frozen=True)
class TensorCost:
    """A tensor that an NPU holds in INT8.

    Attributes:
        name: of the variable.
        made_by: type of the operator that computes it; `feed` for an input.
        limits: its range; None: it has none.
        values: its statistics in the float network.
        saturated: share of its values that the range clips, 0 to 1.
        rounding: signal-to-noise of rounding it alone, at itself, dB.
        built_up: the same in the fully quantised network.
    """

    name: str
    made_by: str
    limits: QuantParams | None
    values: Values
    saturated: float
    rounding: float
    built_up: float


@dataclass(frozen=True)
class Analysis:
    """The result of an analysis.

    Attributes:
        kind: `fp32` (quantised as plain PTQ would) or `int8` (with its own ranges and weights).
        reference: what the accumulated error is measured against: `fp32`, or `own weights`: an INT8 model without
            the rounding of its activations.
        images: number of images it was measured on.
        layers: first to last.
        tensors: in the order they are computed.
        outputs: by quantity, signal-to-noise of the fully quantised network, dB.
        accuracy: mAPs `float` and `int8`, `fidelity` of the latter to the former (None: not measured), and the number
            of `images`; None: not measured.
    """

    kind: str
    reference: str
    images: int
    layers: tuple[LayerCost, ...]
    tensors: tuple[TensorCost, ...]
    outputs: Mapping[str, float]
    accuracy: Mapping[str, float | None] | None = None

    def worst_first(self) -> list[LayerCost]:
        """The layers, the most expensive when quantised alone first."""
        return sorted(self.layers, key=lambda cost: (cost.worst(), cost.layer.index))


def with_min_max_ranges(network: Network, feeds: Feeds, symmetric: bool = True) -> Network:
    """An FP32 network with ranges that clip nothing of these images.

    Raises: `DataError` without images.
    """
    if not feeds:
        raise DataError("there is no image to analyse the model on")
    values = observe(network, network.tensors.names, feeds)
    return replace(network, ranges=min_max_ranges(network.tensors, values, symmetric))


def analyse(
    network: Network,
    feeds: Feeds,
    quantities: Quantities | None = None,
    reference: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None,
    shown: Callable[[int], Any] = lambda done: None,
) -> Analysis:
    """Measure what INT8 costs a network, in signal-to-noise.

    Args:
        network: the network, with ranges.
        feeds: images, one in each feed.
        quantities: computes what is compared from the outputs; None: each output.
        reference: for an INT8 model, the FP32 network: returns for a feed its tensors by name, and its outputs under
            the names of the INT8 model's. Tensors that it lacks are not compared.
        shown: called with the number of layers and images that are done, up to `steps_of`.

    Raises: `DataError` without images.
    """
    if not feeds:
        raise DataError("there is no image to analyse the model on")
    outputs = list(network.model.outputs)
    quantities = quantities or plain_outputs(outputs)
    values = observe(network, network.tensors.names, feeds)
    alone = _alone(network, feeds, quantities, outputs, shown)
    together = _Together(network, outputs, quantities, reference)
    for feed in feeds:
        together.add(feed)
    kinds = {name: op.type for op in network.model.operators for name in op.outputs}
    tensors = tuple(
        TensorCost(
            name,
            kinds.get(name, "feed"),
            network.ranges.get(name),
            values[name],
            together.saturation[name].share if name in together.saturation else 0.0,
            together.rounding[name].decibels,
            together.built_up[name].decibels,
        )
        for name in network.tensors.names
    )
    built_up = {tensor.name: tensor.built_up for tensor in tensors}
    layers = tuple(
        LayerCost(layer, alone[layer.name], built_up.get(layer.output, np.nan)) for layer in network.layers
    )
    against = "fp32" if network.kind == "fp32" or reference else "own weights"
    found = {name: noise.decibels for name, noise in together.outputs.items()}
    return Analysis(network.kind, against, len(feeds), layers, tensors, found)


def steps_of(network: Network, feeds: Feeds) -> int:
    """The number of steps that `analyse` shows."""
    return len(network.layers) * len(feeds)


def _alone(
    network: Network,
    feeds: Feeds,
    quantities: Quantities,
    outputs: Sequence[str],
    shown: Callable[[int], Any],
) -> dict[str, dict[str, dict[str, float]]]:
    """By layer, form and quantity: signal-to-noise of the outputs, dB."""
    alone = LayersAlone(network, outputs)
    noise: dict[str, dict[str, dict[str, Noise]]] = {}
    done = 0
    for feed in feeds:
        values = alone.exact(feed)
        exact = quantities([as_array(values[name]) for name in outputs])
        for layer in network.layers:
            results = alone(layer, values)
            counts = noise.setdefault(layer.name, {form: {q: Noise() for q in exact} for form in FORMS})
            for form, result in zip(FORMS, results):
                for quantity, value in quantities(result).items():
                    counts[form][quantity].add(exact[quantity], value)
            done += 1
            shown(done)
    return {
        name: {form: {q: n.decibels for q, n in counts.items()} for form, counts in forms.items()}
        for name, forms in noise.items()
    }


class _Together:
    """Compares the fully quantised network with the exact one, tensor by tensor."""

    def __init__(
        self, network: Network, outputs: Sequence[str], quantities: Quantities, reference: Callable | None
    ) -> None:
        names = [*dict.fromkeys([*network.tensors.names, *outputs])]
        self._names, self._fetched, self._ranges = names, outputs, network.ranges
        self._quantities, self._reference = quantities, reference
        self._exact = network.simulation({}, outputs=names)
        self._quantised = network.fully_quantised(names)
        self.built_up = {name: Noise() for name in names}
        self.rounding = {name: Noise() for name in names}
        self.saturation = {name: Saturation(limits) for name, limits in network.ranges.items()}
        self.outputs: dict[str, Noise] = {}

    def add(self, feed: Mapping[str, np.ndarray]) -> None:
        own = dict(zip(self._names, self._exact(feed)))
        found = dict(zip(self._names, self._quantised(feed)))
        exact = self._reference(feed) if self._reference else own
        for name in self._names:
            if name in exact and exact[name].shape == found[name].shape:
                self.built_up[name].add(exact[name], found[name])
            if name in self._ranges:
                self.rounding[name].add(own[name], self._ranges[name].fake_quantise(own[name]))
                self.saturation[name].add(own[name])
        should = self._quantities([exact[name] for name in self._fetched])
        for quantity, value in self._quantities([found[name] for name in self._fetched]).items():
            self.outputs.setdefault(quantity, Noise()).add(should[quantity], value)
