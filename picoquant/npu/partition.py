"""Paddle Lite's partition file: operators to leave on the CPU, so that the NPU runs fewer subgraphs.

A line is `type:inputs:outputs`, where inputs and outputs are names separated by commas; either may be empty
(Paddle Lite 2.13, `lite/utils/env.h`). On the board the file is set by
`set_nnadapter_subgraph_partition_config_path` of `MobileConfig` or `CxxConfig`, or by the environment
variable SUBGRAPH_PARTITION_CONFIG_FILE, which opt reads as well. A file can only move operators from the NPU
to the CPU; so the number of subgraphs falls by moving the small ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection

from picoquant.backends.placement import PartitionedGraph
from picoquant.npu.cost import macs
from picoquant.paddle_program.layers import BATCH_NORM, fused_layers

# A subgraph with a smaller fraction of the multiply-accumulates costs less on the CPU than its conversions.
_MIN_FRACTION = 0.01


def partition_text(graph: PartitionedGraph) -> str:
    """Content of a partition file that moves the small subgraphs to the CPU; empty if no subgraph is small.

    The largest subgraph always stays on the NPU. The lines are in execution order.
    """
    subgraphs = graph.subgraphs
    if len(subgraphs) < 2:
        return ""
    counts = [macs(graph, subgraph) for subgraph in subgraphs]
    largest = max(range(len(subgraphs)), key=lambda index: (counts[index], len(subgraphs[index])))
    moved = [
        subgraph
        for index, subgraph in enumerate(subgraphs)
        if index != largest and counts[index] < _MIN_FRACTION * max(1, sum(counts))
    ]
    return "".join(f"{op.line}\n" for subgraph in moved for op in subgraph)


def float_text(graph: PartitionedGraph, kept: Collection[str]) -> str:
    """Content of a partition file that leaves float layers on the CPU: convolution, bias and ReLU.

    Without this file, opt puts a convolution with a float weight into an INT8 subgraph, which the board
    rejects.

    Args:
        graph: the network.
        kept: names of the results of the convolutions that stay in float.
    """
    layers, lines = fused_layers(graph.graph), []
    for op in graph.operators:
        if op.name in kept:
            fused = layers[op.name].fused if op.name in layers else ()
            # Behind a batch-norm that was not folded Paddle Lite starts anew: the NPU takes it again.
            behind = itertools.takewhile(lambda one: one.op_type != BATCH_NORM, fused)
            lines += [f"{one.line}\n" for one in (op, *behind)]
    return "".join(lines)
