"""Pass: ranges moved so that no product, mean or function lies half-way between two quantised values."""

from __future__ import annotations

from dataclasses import replace

from picoquant.int8.passes.tie_avoidance import tie_free_ranges
from picoquant.quantization.ptq.state import PtqState


def avoid_ties(state: PtqState) -> PtqState:
    """Move the ranges of products, means and functions by less than 1 in 1,300; see `int8.passes.tie_avoidance`.

    Must come after `unify_scales`: the tensors of a group are moved together.
    """
    bits = state.quant.activation_bits
    ranges = tie_free_ranges(state.ranges, state.products, state.tensors.groups, bits, state.zero_points)
    return replace(state, ranges=ranges)
