"""Runs convolutions with oneDNN, many times faster, in programs whose weights change.

In inference (`is_test`) Paddle caches each weight in oneDNN's layout under the variable's name, and does not
notice that the weight changes later: every run computes with the weights of the first one (paddle 2.6.2).
Without `is_test` the weight is converted at each run, which costs little, and the results are otherwise the
same.
"""

from __future__ import annotations

from typing import Any

from picoquant.paddle_program.layers import CONVOLUTIONS


def use_onednn(program: Any) -> None:
    """Run the convolutions of a static program, and their gradients, with oneDNN; changes it in place.

    Batch-norms are left out: they were slower with oneDNN.
    """
    for op in program.global_block().ops:
        if op.type in CONVOLUTIONS:
            op._set_attr("use_mkldnn", True)
    read_weights_each_time(program)


def read_weights_each_time(program: Any) -> None:
    """Let convolutions read their current weights at each run; `clone(for_test=True)` reverts this."""
    for op in program.global_block().ops:
        if op.type in CONVOLUTIONS and op.has_attr("is_test"):
            op._set_attr("is_test", False)
