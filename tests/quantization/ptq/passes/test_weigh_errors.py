"""What errors cost, by value, against gradients that Paddle computes of the same network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.errors import DataError
from picoquant.quantization.engine.feeds import parts
from picoquant.quantization.ptq import float_network
from picoquant.quantization.ptq.passes.choose_ranges import choose_ranges
from picoquant.quantization.ptq.passes.fold_batch_norm import fold_batch_norm
from picoquant.quantization.ptq.passes.observe import observe
from picoquant.quantization.ptq.passes.place_quantisers import place_quantisers
from picoquant.quantization.ptq.passes.weigh_errors import weigh_errors
from picoquant.quantization.ptq.pipeline import run_passes
from picoquant.quantization.ptq.sensitivity import observe_gradients
from tests.quantization.ptq.passes.conftest import UNEVEN_FEED

PASSES = (fold_batch_norm, place_quantisers, observe)


@pytest.mark.parametrize("activation", ["hard_swish", "relu6"])
def test_gradients_behind_an_activation_are_those_of_its_result(uneven_state, activation):
    function = {"hard_swish": nn.functional.hardswish, "relu6": nn.functional.relu6}[activation]
    state = run_passes((*PASSES, weigh_errors), uneven_state(function, "pool"))
    graph = state.model.graph()
    behind = {op.input("X0"): op.results[0] for op in graph.operators if op.op_type == activation}
    found = {name: one for name, one in state.statistics.gradients.items() if len(graph.users(name)) == 1}
    results = {name: behind.get(name, name) for name in found}
    with float_network.differentiable(state, "", at_once=2) as (network, error, _):
        (seen,) = observe_gradients(network, error, [UNEVEN_FEED], sorted({*results, *results.values()}))
    assert len(found) > 2
    for name, result in results.items():
        values, gradients = seen.values[name], seen.gradients[result]
        expected = (gradients * (values != 0)).reshape(len(values), -1).sum(1)
        scale = np.abs(gradients).reshape(len(values), -1).sum(1)
        np.testing.assert_allclose(found[name].sums.sum(1) / scale, expected / scale, atol=1e-5)


def test_what_costs_most_gets_its_range(small_state):
    """A tensor whose gradients are known is chosen for by them, every other by its squared error."""
    state = run_passes((*PASSES, weigh_errors), small_state(ranges="detections"))
    known = state.statistics.gradients
    assert "image" not in known and len(known) > 3
    chosen = run_passes((choose_ranges,), state).ranges
    settings = state.context.settings
    settings = replace(settings, quantization=replace(settings.quantization, ranges="mse"))
    plain = replace(state, context=replace(state.context, settings=settings))
    plain = run_passes((choose_ranges,), plain).ranges
    assert chosen["image"] == plain["image"]
    assert sum(chosen[name] != plain[name] for name in known) > len(known) / 4


def test_a_gradient_that_is_not_finite_is_named(small_state, monkeypatch):
    state = run_passes(PASSES, small_state())
    weighted = float_network.DetectionError.weighted

    def infinite(self, tensors):
        return [(paddle.sqrt(one * 0), factor) for one, factor in weighted(self, tensors)]

    monkeypatch.setattr(float_network.DetectionError, "weighted", infinite)
    with pytest.raises(DataError, match="costs the detections is not finite, .* set Quantize.ranges to mse"):
        run_passes((weigh_errors,), state)


@pytest.mark.parametrize(
    "fixed, most, sizes", [(-1, 8, [8, 1]), (1, 8, [1] * 9), (3, 8, [3] * 3), (-1, None, [9]), (2, None, [9])]
)
def test_a_network_that_is_fixed_to_a_number_of_images_gets_so_many(small_state, fixed, most, sizes):
    graph = small_state().model.graph()
    tensors = {**graph.tensors, "image": replace(graph.tensor("image"), shape=(fixed, 3, 4, 4))}
    feed = {"image": np.zeros((9, 3, 4, 4)), "unused": np.zeros(9)}
    found = [set(part) | {len(part["image"])} for part in parts(replace(graph, tensors=tensors), feed, most)]
    assert found == [{"image", size} for size in sizes]
