"""Ranks layers by what each costs alone in INT8: the signal-to-noise of the network's outputs on a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle

from picoquant.int8.build import Int8Source
from picoquant.int8.fake_quant_run import load_source
from picoquant.int8.ignored_layers import with_same_weight
from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.passes.activations import target_tensors
from picoquant.int8.passes.weights import rounded_weight
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.static.programs import read_variable
from picoquant.quantization.analysis.analyse import analyse
from picoquant.quantization.analysis.layers import find_layers
from picoquant.quantization.analysis.network import Network, before_nms
from picoquant.quantization.analysis.quantities import picodet_quantities


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
    source: Int8Source, executor: Any, feeds: Sequence[Mapping[str, np.ndarray]], config: InferConfig
) -> list[RankedGroup]:
    """The operators that run in INT8, grouped by weight, the most expensive group first.

    Args:
        source: an INT8 model's weights and ranges.
        executor: of Paddle.
        feeds: batches of images by input name; cut into single images where the model allows it.
        config: of the model folder: which outputs are scores and boxes.
    """
    with paddle.static.scope_guard(paddle.static.Scope()):
        network = _network(source, executor)
        if network.batch_size == 1 or network.batch_size < 0:
            feeds = [
                {name: value[i : i + 1] for name, value in feed.items()}
                for feed in feeds
                for i in range(len(next(iter(feed.values()))))
            ]
        names = [variable.name for variable in network.model.fetches]
        shapes = [variable.shape for variable in network.model.fetches]
        found = analyse(network, feeds, picodet_quantities(names, shapes, config))
        return group_by_weight([(cost.layer.operator, cost.worst()) for cost in found.worst_first()])


def _network(source: Int8Source, executor: Any) -> Network:
    """What `analyse` measures, loaded into the current scope."""
    model, scope = before_nms(load_source(source, executor)), paddle.static.global_scope()
    graph = model.graph()
    tensors, layers = target_tensors(graph), find_layers(graph, source.operators)
    bits = source.settings.weight_bits
    rounded = {
        layer.name: rounded_weight(read_variable(scope, layer.operator.weight), layer.operator.axis, bits)
        for layer in layers
    }
    ranges = {n: source.params(n) for n in tensors.names if n in source.ranges}
    return Network("fp32", model, executor, tensors, layers, ranges, rounded)


def group_by_weight(ranked: Sequence[tuple[QuantizableOperator, float]]) -> list[RankedGroup]:
    """Ranked operators with their cost in dB; those that share a weight together, at the place of the worst."""
    operators = [operator for operator, _ in ranked]
    groups, seen = [], set()
    for operator, cost in ranked:
        if operator.weight not in seen:
            seen.add(operator.weight)
            groups.append(RankedGroup(with_same_weight([operator], operators), cost))
    return groups
