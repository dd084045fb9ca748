"""Pass: scales with which the gates of hard-swishes end at integers."""

from __future__ import annotations

from dataclasses import replace

from picoquant.int8.passes.gate_scales import gate_ranges, gated_tensors
from picoquant.quantization.ptq.state import PtqState


def settle_gates(state: PtqState) -> PtqState:
    """Move the ranges of what hard-swishes take by 2 % at most, see `int8.passes.gate_scales`.

    Must come after `unify_scales`: the tensors of a group are moved together. Ranges that are settled stay.
    """
    gated = gated_tensors(state.model.graph())
    bits = state.quant.activation_bits
    ranges, zeros = gate_ranges(state.ranges, gated, state.tensors.groups, bits, state.zero_points)
    return replace(state, ranges=ranges, zero_points=zeros)
