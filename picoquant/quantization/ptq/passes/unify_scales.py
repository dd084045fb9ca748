"""Pass: one scale for the tensors of a group: operators such as concat or reshape pass values on unrounded."""

from __future__ import annotations

from dataclasses import replace

from picoquant.int8.passes.activations import unified_ranges
from picoquant.quantization.ptq.state import PtqState


def unify_scales(state: PtqState) -> PtqState:
    """Give the tensors of each group the largest range among them, or among those that training has found.

    Ranges chosen from histograms are the same within a group already; those of a trained network are not.
    """
    return replace(state, ranges=unified_ranges(state.ranges, state.tensors.groups, state.learned))
