"""Convolutions through oneDNN, many times faster, in programs whose weights change.

In inference (`is_test`) Paddle stores each weight once as oneDNN wants it, under the variable's name, and does not see
that it has changed since: the same program gave results of the weights of its first run (paddle 2.6.2). Without that
mark a weight is stored anew at each run, which costs little, and the results are the same.
"""

from __future__ import annotations

from typing import Any

from picoquant.paddle_program.layers import CONVOLUTIONS


def use_onednn(program: Any) -> None:
    """Mark the convolutions; their gradients inherit it. (Batch-norm was slower through oneDNN.)"""
    for op in program.global_block().ops:
        if op.type in CONVOLUTIONS:
            op._set_attr("use_mkldnn", True)
    read_weights_each_time(program)


def read_weights_each_time(program: Any) -> None:
    """Have convolutions take their weights as they are at each run; `clone(for_test=True)` undoes it."""
    for op in program.global_block().ops:
        if op.type in CONVOLUTIONS and op.has_attr("is_test"):
            op._set_attr("is_test", False)
