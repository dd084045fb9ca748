"""The cheapest factors, against closed forms, finite differences and other factors."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.quantization.ptq.equalisation.cost import (
    Descent,
    OneScale,
    Weights,
    _cost,
    best_factors,
    cost_of,
    rounding_costs,
)

RANDOM = np.random.RandomState(0)
DESCENT = Descent(200, 0.2)
CHANNELS = np.arange(1, 9)
TENSOR = OneScale(CHANNELS, np.exp(3 * RANDOM.randn(8)), np.exp(3 * RANDOM.randn(8)))
WEIGHTS = Weights(
    np.tile(CHANNELS, (5, 1)),
    np.exp(2 * RANDOM.randn(5, 8)),
    1e-3 * TENSOR.reach**2 * np.exp(RANDOM.randn(5, 8)),
)
OTHERS = OneScale(np.array([0, 0, 3, 4]), np.array([5.0, 0.1, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0]))


def test_alone_each_channel_gets_all_levels():
    """Nothing is cheaper than a scale of each channel's own."""
    factor = best_factors(8, [TENSOR], [], DESCENT)
    before, after = (cost_of(one, [TENSOR], []) for one in (np.ones(8), factor))
    own = rounding_costs(TENSOR.reach, TENSOR.cost).sum()
    assert before == pytest.approx(rounding_costs(TENSOR.reach.max(), TENSOR.cost).sum())
    assert own * (1 - 1e-9) < after < 1.03 * own < before
    share = TENSOR.cost * TENSOR.reach**2
    large = share > 0.01 * share.sum()  # the others hardly matter
    even = (TENSOR.reach / factor)[large]
    assert large.sum() > 1 and even.max() / even.min() < 1.1


@pytest.mark.parametrize("tensors", [[TENSOR], [TENSOR, OTHERS]])
def test_no_other_factors_are_cheaper(tensors):
    factor = best_factors(8, tensors, [WEIGHTS], DESCENT)
    before, after = (cost_of(one, tensors, [WEIGHTS]) for one in (np.ones(8), factor))
    assert after < before
    for _ in range(200):
        other = np.log(factor) + 0.3 * RANDOM.randn(8)
        assert _cost(other, tensors, [WEIGHTS])[0] > 0.99 * after


# Of a grouped convolution, whose output channels read other inputs.
GROUPED = Weights(np.array([[1, 2, 3, 0], [5, 6, 7, 8]]), np.exp(RANDOM.randn(2, 4)), WEIGHTS.cost[:2, :4])


@pytest.mark.parametrize("weights", [[WEIGHTS], [GROUPED], [WEIGHTS, GROUPED]])
def test_gradient_is_that_of_the_logarithm(weights):
    at = RANDOM.randn(8)
    cost, gradient = _cost(at, [TENSOR, OTHERS], weights)
    for index in range(8):
        step = 1e-6 * (np.arange(8) == index)
        ahead, behind = (_cost(at + sign * step, [TENSOR, OTHERS], weights)[0] for sign in (1, -1))
        assert (ahead - behind) / 2e-6 / cost == pytest.approx(gradient[index], rel=1e-4, abs=1e-6)


def test_what_has_no_factor_bounds_the_others():
    """A tensor that shares its scale with a small one is made small; with a large one it may be as large."""
    one = OneScale(np.array([1, 0]), np.array([100.0, 1.0]), np.array([1.0, 1e6]))
    assert best_factors(1, [one], [], DESCENT)[0] > 90
    other = OneScale(np.array([1, 0]), np.array([1.0, 100.0]), np.array([1e6, 1.0]))
    assert best_factors(1, [other], [], DESCENT)[0] == pytest.approx(0.01, rel=0.1)


def test_without_any_cost_the_factors_stay():
    silent = OneScale(CHANNELS, TENSOR.reach, np.zeros(8))
    factor = best_factors(8, [silent], [], DESCENT)
    assert cost_of(factor, [silent], []) == 0 and (factor == 1).all()


def test_weights_with_one_scale():
    """One scale for all is that of the largest: as of a tensor whose channels are multiplied."""
    together = WEIGHTS.with_one_scale()
    factor = np.exp(RANDOM.randn(8))
    own = factor[WEIGHTS.channels - 1]
    largest = (WEIGHTS.reach * own).max()
    assert cost_of(factor, [], [together]) == pytest.approx(
        rounding_costs(largest, WEIGHTS.cost / own**2).sum()
    )
    assert cost_of(factor, [], [together]) > cost_of(factor, [], [WEIGHTS])


def test_output_channels_of_weights_are_independent():
    factor = np.exp(RANDOM.randn(8))
    rows = [
        Weights(*(part[row : row + 1] for part in (one.channels, one.reach, one.cost)))
        for one in (WEIGHTS, GROUPED)
        for row in range(len(one.reach))
    ]
    assert cost_of(factor, [], [WEIGHTS, GROUPED]) == pytest.approx(cost_of(factor, [], rows))
    assert WEIGHTS.inputs is not None and GROUPED.inputs is None
