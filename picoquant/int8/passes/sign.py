"""Which tensors are never below 0, as far as the operators say: they need no integers for negative values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from picoquant.int8.functions import NEVER_NEGATIVE
from picoquant.paddle_program.graph import Graph, Operator

_KEEP_SIGN = (
    "concat", "split", "pool2d", "reshape2", "reshape", "transpose2", "transpose", "nearest_interp_v2",
    "elementwise_add", "elementwise_mul", "slice", "assign", "squeeze2", "unsqueeze2", "flatten_contiguous_range",
)  # fmt: skip


def non_negative_tensors(graph: Graph, values: Mapping[str, np.ndarray]) -> frozenset[str]:
    """The computed tensors without values below 0.

    Args:
        graph: the network.
        values: its stored tensors.
    """
    found: set[str] = set()
    for op in graph.operators:
        if op.op_type in NEVER_NEGATIVE or _keeps_sign(op, values, found) or _clipped(op):
            found.update(name for _, name in op.outputs)
    return frozenset(found)


def _keeps_sign(op: Operator, values: Mapping[str, np.ndarray], found: set[str]) -> bool:
    """Whether an operator makes nothing negative, and reads nothing negative."""
    if op.op_type not in _KEEP_SIGN:
        return False
    return all((values[name] >= 0).all() if name in values else name in found for _, name in op.inputs)


def _clipped(op: Operator) -> bool:
    """Whether a clip, whose ends are attributes, ends at 0 or above."""
    return op.op_type == "clip" and op.attributes.get("min", -1.0) >= 0 and op.input("Min0") is None
