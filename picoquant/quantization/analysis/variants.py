"""What quantising one layer alone costs, for all layers of a network.

Quantised alone means: the layer's input (for this layer only), its weight and its own result are rounded to
INT8; everything else stays in FP32. To measure that without running the whole network for each layer, its result is
computed from the FP32 network's own tensors in all forms, and then only what comes behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import paddle

from picoquant.paddle_program.graph import Graph
from picoquant.quantization.analysis.layers import Layer
from picoquant.quantization.analysis.network import Network
from picoquant.quantization.engine.arrays import as_array
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.simulation import Rounding, Simulation

# What is rounded: (input and result, weight).
FORMS = {"both": (True, True), "weights": (False, True), "activations": (True, False)}


def with_layer_alone(network: Network, layer: Layer) -> Simulation:
    """The whole network with one layer in INT8: its input, for it alone, its weight and its result."""
    model, operator = network.model.copy(), layer.operator
    op = model.producer(operator.output)
    alias = model.add_tensor(f"{layer.name}@input", operator.activation)
    model.insert(model.index(op), "assign", {"X": [operator.activation]}, {"Out": [alias]}, {})
    op.rename_input(operator.activation, alias)
    op.rename_input(operator.weight, model.store(f"{layer.name}@alone", network.rounded[layer.name]))
    names = {alias: operator.activation, layer.output: layer.output}
    ranges = {name: network.ranges[of] for name, of in names.items() if of in network.ranges}
    return Simulation(model, ranges, convolutions=network.convolutions)


class LayersAlone:
    """Each layer's result with its input, its weight or both in INT8, and the network from there on.

    Args:
        network: what is analysed.
        outputs: names of its tensors that are compared.
    """

    def __init__(self, network: Network, outputs: Sequence[str]) -> None:
        graph = network.model.graph()
        self._together = network.batch_size < 1
        self._outputs, self._ranges = tuple(outputs), network.ranges
        self._network = _float_network(graph, network.model.values, network)
        self._rounded = {layer.name: _with_own_weight(graph, network, layer) for layer in network.layers}
        self._needs = {layer.name: _boundary(graph, layer.output, outputs) for layer in network.layers}
        self._per_image = {
            name
            for needs in self._needs.values()
            for name in needs
            if (graph.tensor(name).shape or (0,))[0] == -1
        }
        own = [name for layer in network.layers for name in (layer.operator.activation, layer.output)]
        between = [name for needs in self._needs.values() for name in needs]
        self._kept = tuple(dict.fromkeys([*own, *between, *outputs]))

    def exact(self, feed: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The tensors of the FP32 network that the other calls take, by name.

        Args:
            feed: arrays by input name, the batch first.
        """
        with paddle.no_grad():
            tensors = {name: paddle.to_tensor(value) for name, value in feed.items()}
            return dict(zip(self._kept, self._network(tensors, self._kept)))

    def __call__(self, layer: Layer, exact: Mapping[str, Any]) -> list[list[np.ndarray]]:
        """The outputs with one layer in INT8, in each of `FORMS`.

        Args:
            layer: of the network.
            exact: see there; of the same images.
        """
        with paddle.no_grad():
            moved = [self._form(layer, exact, *form) for form in FORMS.values()]
            if not self._together:
                return [self._behind(layer, exact, one, 1) for one in moved]
            found = self._behind(layer, exact, paddle.concat(moved), len(moved))
            parts = [np.split(output, len(moved)) for output in found]
            return [list(one) for one in zip(*parts)]

    def _form(self, layer: Layer, exact: Mapping[str, Any], activations: bool, weights: bool) -> Any:
        name = layer.operator.activation
        value = self._round(name, exact[name]) if activations else exact[name]
        network = self._rounded[layer.name] if weights else self._network
        (result,) = network({name: value}, (layer.output,))
        return self._round(layer.output, result) if activations else result

    def _round(self, name: str, value: Any) -> Any:
        return Rounding(self._ranges[name])(value) if name in self._ranges else value

    def _behind(self, layer: Layer, exact: Mapping[str, Any], moved: Any, times: int) -> list[np.ndarray]:
        """The outputs where a layer's result is `moved`, `times` the images; an output before it is exact."""
        feed = {name: self._repeated(name, exact[name], times) for name in self._needs[layer.name]}
        feed[layer.output] = moved
        return [as_array(one) for one in self._network(feed, self._outputs)]

    def _repeated(self, name: str, value: Any, times: int) -> Any:
        return paddle.concat([value] * times) if name in self._per_image and times > 1 else value


def _float_network(graph: Graph, values: Mapping[str, np.ndarray], network: Network) -> FakeQuantNetwork:
    return FakeQuantNetwork(graph, values, (), {}, convolutions=network.convolutions)


def _with_own_weight(graph: Graph, network: Network, layer: Layer) -> FakeQuantNetwork:
    """A layer with its weight in INT8."""
    chain = tuple(graph.producer(name) for name in layer.chain)
    part = replace(graph, operators=chain, inputs=(layer.operator.activation,), outputs=(layer.output,))
    values = {**network.model.values, layer.operator.weight: network.rounded[layer.name]}
    return _float_network(part, values, network)


def _boundary(graph: Graph, start: str, outputs: Sequence[str]) -> tuple[str, ...]:
    """The tensors beside `start` from which everything behind it is computed, and the outputs before it."""
    behind, needed = {start}, list(outputs)
    for op in graph.operators:
        if any(name in behind for _, name in op.inputs):
            behind.update(name for _, name in op.outputs)
            needed += [name for _, name in op.inputs if not graph.tensor(name).stored]
    return tuple(dict.fromkeys(name for name in needed if name not in behind))
