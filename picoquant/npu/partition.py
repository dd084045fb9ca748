"""The partition file: operators that Paddle Lite shall leave on the CPU, so that the NPU's pieces are fewer.

A line is `type:inputs:results`, lists of names separated by commas; a list may be left out (Paddle Lite 2.13,
`lite/utils/env.h`). On the board `MobileConfig`'s or `CxxConfig`'s
`set_nnadapter_subgraph_partition_config_path` names the file, or the variable SUBGRAPH_PARTITION_CONFIG_FILE, which
opt follows, too. A file can take operators off the NPU only; so it joins pieces by giving up the small ones.
"""

from __future__ import annotations

from collections.abc import Collection

from picoquant.npu.cost import macs
from picoquant.npu.partitioned import PartitionedGraph
from picoquant.paddle_program.layers import fused_layers

# A piece with less than this share of the multiply-accumulates is cheaper on the CPU than its conversions.
_WORTH = 0.01


def partition_text(split: PartitionedGraph) -> str:
    """A file that leaves the small pieces to the CPU; empty where no piece is small.

    The largest piece always stays. Lines are sorted as the operators run.
    """
    pieces = split.subgraphs
    if len(pieces) < 2:
        return ""
    work = [macs(split, piece) for piece in pieces]
    most = max(range(len(pieces)), key=lambda index: (work[index], len(pieces[index])))
    given_up = [
        piece
        for index, piece in enumerate(pieces)
        if index != most and work[index] < _WORTH * max(1, sum(work))
    ]
    return "".join(f"{op.line}\n" for piece in given_up for op in piece)


def float_text(split: PartitionedGraph, kept: Collection[str]) -> str:
    """A file that leaves layers in float to the CPU: the convolution, its bias and a ReLU behind it alone.

    Without it opt puts a convolution with a float weight into an INT8 piece, which the board refuses.

    Args:
        split: the network.
        kept: results of the convolutions.
    """
    layers, lines = fused_layers(split.graph), []
    for op in split.operators:
        if op.name in kept:
            behind = layers[op.name].fused if op.name in layers else ()
            lines += [f"{one.line}\n" for one in (op, *behind)]
    return "".join(lines)
