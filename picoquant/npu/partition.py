"""The partition file: operators that Paddle Lite shall leave on the CPU, so that the NPU's pieces are fewer.

A line is `type:inputs:results`, lists of names separated by commas; a list may be left out (Paddle Lite 2.13,
`lite/utils/env.h`). On the board `MobileConfig`'s or `CxxConfig`'s
`set_nnadapter_subgraph_partition_config_path` names the file, or the variable SUBGRAPH_PARTITION_CONFIG_FILE, which
opt follows, too. A file can take operators off the NPU only; so it joins pieces by giving up the small ones.
"""

from __future__ import annotations

from picoquant.npu.cost import macs
from picoquant.npu.graph import Split

# A piece with less than this share of the multiply-accumulates is cheaper on the CPU than its conversions.
_WORTH = 0.01


def partition_text(split: Split) -> str:
    """A file that leaves the small pieces to the CPU; empty where no piece is small.

    The largest piece always stays. Lines are sorted as the operators run.
    """
    pieces = split.pieces
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
