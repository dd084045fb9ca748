"""One range for each group of tensors."""

from __future__ import annotations

from dataclasses import replace

from picoquant.int8.passes.activations import TargetTensors
from picoquant.quantization.ptq.passes.unify_scales import unify_scales
from picoquant.quantization.ptq.pipeline import run_passes

RANGES = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 3.0}
TENSORS = TargetTensors(tuple("abcdefg"), (("a", "b"), ("c", "d", "e"), ("f", "g")), {})


def test_a_group_gets_its_largest_range(small_state):
    state = replace(small_state(), ranges=RANGES, tensors=TENSORS)
    assert run_passes((unify_scales,), state).ranges == {"a": 2.0, "b": 2.0, "c": 4.0, "d": 4.0, "e": 4.0}
    assert state.ranges == RANGES


def test_learned_ranges_win(small_state):
    state = replace(small_state(), ranges=RANGES, tensors=TENSORS, learned=frozenset("ad"))
    assert run_passes((unify_scales,), state).ranges == {"a": 1.0, "b": 1.0, "c": 3.0, "d": 3.0, "e": 3.0}
