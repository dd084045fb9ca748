"""Ranges of what hard-swishes take; the arithmetic is tested in `tests/int8/passes/test_gate_scales.py`."""

from __future__ import annotations

from dataclasses import replace

import pytest
from paddle import nn

from picoquant.int8.passes.gate_scales import gated_tensors
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.passes.settle_gates import settle_gates
from picoquant.quantization.ptq.pipeline import run_passes
from tests.networks.small_net import loaded_and_folded


class Swishes(nn.Layer):
    """A hard-swish behind each of two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = (nn.Conv2D(size, 4, 1) for size in (3, 4, 4))

    def forward(self, image):
        swish = nn.functional.hardswish
        return self.last(swish(self.second(swish(self.first(image)))))


def test_what_hard_swishes_take_is_moved(small_state, tmp_path):
    model = loaded_and_folded(Swishes, tmp_path, (3, 8, 8))
    state = place_quantisers(replace(small_state(), model=model))
    gated = gated_tensors(model.graph())
    assert len(gated) == 2
    ranges = dict.fromkeys(state.tensors.names, 6.0)
    found = run_passes((settle_gates,), replace(state, ranges=ranges))
    assert found.ranges == {name: 381 / 64 if name in gated else 6.0 for name in ranges}
    assert found.zero_points == {} and settle_gates(found).ranges == found.ranges
    zeros = dict.fromkeys(ranges, -128 + 83)  # -2.946 to 6.104 in steps of 9.05 / 255
    found = settle_gates(replace(state, ranges=dict.fromkeys(ranges, 127 * 9.05 / 255), zero_points=zeros))
    assert {found.zero_points[name] for name in gated} == {-128 + 84}
    assert [found.ranges[name] for name in gated] == pytest.approx([381 / 84] * 2)
    assert all(found.zero_points[name] == -45 for name in ranges if name not in gated)
