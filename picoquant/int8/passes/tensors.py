"""What each tensor of an INT8 network is held in: found once from the graph and the ranges, for every later use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from picoquant.int8.network import QuantizedOperator, QuantizedTensor
from picoquant.int8.passes.activations import activation_quantisers, target_tensors
from picoquant.int8.passes.sign import non_negative_tensors
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Graph


def quantised_tensors(
    graph: Graph,
    values: Mapping[str, np.ndarray],
    operators: Sequence[QuantizedOperator],
    ranges: Mapping[str, float],
    bits: int = 8,
    zero_points: Mapping[str, int] | None = None,
) -> dict[str, QuantizedTensor]:
    """The computed tensors of a network, by name: those that are held in their order, then those inside layers.

    Args:
        graph: folded.
        values: its stored tensors.
        operators: those on integers.
        ranges: value of 127 steps of each tensor, above 0; a tensor without one has no `params`.
        bits: of an activation's integers.
        zero_points: of tensors that are not symmetric.
    """
    found, zeros = target_tensors(graph), zero_points or {}
    owners = {name: group[0] for group in found.groups for name in group}
    positive = non_negative_tensors(graph, values)
    quantised = set(activation_quantisers(graph, operators, found))
    return {
        name: QuantizedTensor(
            params=QuantParams.of_range(ranges[name], bits, zeros.get(name)) if name in ranges else None,
            owner=owners.get(name, name),
            fused_into=found.fused.get(name),
            quantised=name in quantised,
            non_negative=name in positive,
        )
        for name in (*found.names, *found.fused)
    }
