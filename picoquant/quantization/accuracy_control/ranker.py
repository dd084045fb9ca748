"""Ranks layers by what each costs alone in INT8: the signal-to-noise of the network's outputs on a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from picoquant.int8.build import Int8Source
from picoquant.int8.fake_quant_run import load_source
from picoquant.int8.ignored_layers import with_same_weight
from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.passes.activations import target_tensors
from picoquant.int8.passes.weights import rounded_weight
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.quantization.analysis.analyse import analyse
from picoquant.quantization.analysis.layers import find_layers
from picoquant.quantization.analysis.network import Network, comparable
from picoquant.quantization.analysis.quantities import picodet_quantities
from picoquant.quantization.engine.convolution import Convolutions


@dataclass(frozen=True)
class RankedGroup:
    """Operators that go to float together because they share a weight.

    Attributes:
        operators: in the network's order; mostly one.
        alone_db: signal-to-noise of the outputs with the worst of them alone in INT8, dB; infinite: no error.
    """

    operators: tuple[QuantizableOperator, ...]
    alone_db: float


def rank(
    source: Int8Source,
    convolutions: Convolutions,
    feeds: Sequence[Mapping[str, np.ndarray]],
    config: InferConfig,
) -> list[RankedGroup]:
    """The operators that run in INT8, grouped by weight, the most expensive group first.

    Args:
        source: an INT8 model's weights and ranges.
        convolutions: compute them.
        feeds: batches of images by input name; cut into single images where the model allows it.
        config: of the model folder: which outputs are scores and boxes.
    """
    network = _network(source, convolutions)
    if network.batch_size == 1 or network.batch_size < 0:
        feeds = [
            {name: value[i : i + 1] for name, value in feed.items()}
            for feed in feeds
            for i in range(len(next(iter(feed.values()))))
        ]
    names = network.model.outputs
    shapes = [network.model.shape(name) for name in names]
    found = analyse(network, feeds, picodet_quantities(names, shapes, config))
    return group_by_weight([(cost.layer.operator, cost.worst()) for cost in found.worst_first()])


def _network(source: Int8Source, convolutions: Convolutions) -> Network:
    """What `analyse` measures."""
    model = comparable(load_source(source))
    graph = model.graph()
    tensors, layers = target_tensors(graph), find_layers(graph, source.operators)
    bits = source.settings.weight_bits
    rounded = {
        layer.name: rounded_weight(model.values[layer.operator.weight], layer.operator.axis, bits)
        for layer in layers
    }
    ranges = {n: source.params(n) for n in tensors.names if n in source.ranges}
    return Network("fp32", model, convolutions, tensors, layers, ranges, rounded)


def group_by_weight(ranked: Sequence[tuple[QuantizableOperator, float]]) -> list[RankedGroup]:
    """Ranked operators with their cost in dB; those that share a weight together, at the place of the worst."""
    operators = [operator for operator, _ in ranked]
    groups, seen = [], set()
    for operator, cost in ranked:
        if operator.weight not in seen:
            seen.add(operator.weight)
            groups.append(RankedGroup(with_same_weight([operator], operators), cost))
    return groups
