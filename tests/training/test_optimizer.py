"""Updates by hand; state that survives another process's parameter names."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.training.optimizer import make_optimizer, optimizer_state, optimizer_step, restore_optimizer
from picoquant.training.precision import Precision
from picoquant.training.settings import OptimizerSettings


def one_weight(value: float, regularizer=None, learning_rate: float = 1.0) -> paddle.nn.Linear:
    attribute = paddle.ParamAttr(
        initializer=paddle.nn.initializer.Constant(value),
        regularizer=regularizer,
        learning_rate=learning_rate,
    )
    return paddle.nn.Linear(1, 1, weight_attr=attribute, bias_attr=False)


def step(model: paddle.nn.Linear, optimizer, rate: float) -> float:
    model(paddle.ones([1, 1])).sum().backward()  # gradient 1
    optimizer_step(optimizer, rate, Precision(False))
    return model.weight.item()


def test_momentum_with_decay():
    # g = 1 + 0.5 w. w = 2: g = 2, v = 2, w = 2 - 0.1 * 2 = 1.8.
    # Then g = 1.9, v = 0.9 * 2 + 1.9 = 3.7, w = 1.8 - 0.2 * 3.7 = 1.06.
    model = one_weight(2.0)
    optimizer = make_optimizer(model, OptimizerSettings(weight_decay=0.5), 1.0)
    assert [step(model, optimizer, 0.1), step(model, optimizer, 0.2)] == pytest.approx([1.8, 1.06])


def test_nesterov():
    # g = 1: v = 1, w = 2 - 0.1 * (1 + 0.9 * 1) = 1.81; then v = 1.9, w = 1.81 - 0.1 * (1 + 0.9 * 1.9) = 1.539.
    model = one_weight(2.0)
    optimizer = make_optimizer(model, OptimizerSettings(use_nesterov=True, weight_decay=0.0), 1.0)
    assert [step(model, optimizer, 0.1) for _ in range(2)] == pytest.approx([1.81, 1.539])


def test_adam_with_decay():
    """The decay is part of the gradient: g = 1 + 0.5 w.

    w = 2: g = 2, both moments are those of g alone, w = 2 - 0.1 * 2 / 2 = 1.9. Then g = 1.95:
    m = (0.9 * 0.2 + 0.1 * 1.95) / (1 - 0.81) = 1.973684, v = (0.999 * 0.004 + 0.001 * 3.8025) / (1 - 0.998001) =
    3.901201, w = 1.9 - 0.1 * 1.973684 / 1.975146 = 1.800074.
    """
    model = one_weight(2.0)
    optimizer = make_optimizer(model, OptimizerSettings(type="Adam", weight_decay=0.5), 1.0)
    assert [step(model, optimizer, 0.1) for _ in range(2)] == pytest.approx([1.9, 1.800074], abs=2e-6)


def test_adamw_takes_the_decay_off_the_weight():
    # g = 1: w = 2 * (1 - 0.1 * 0.5) - 0.1 = 1.8; the gradient stays 1, so w = 1.8 * 0.95 - 0.1 = 1.61.
    model = one_weight(2.0)
    optimizer = make_optimizer(model, OptimizerSettings(type="AdamW", weight_decay=0.5), 1.0)
    assert [step(model, optimizer, 0.1) for _ in range(2)] == pytest.approx([1.8, 1.61], abs=2e-6)


def test_a_parameters_own_regularizer_and_rate_win():
    # No decay (own factor 0), rate 0.1 * 2: w = 2 - 0.2 * 1.
    model = one_weight(2.0, paddle.regularizer.L2Decay(0.0), learning_rate=2.0)
    optimizer = make_optimizer(model, OptimizerSettings(type="SGD", weight_decay=0.5), 1.0)
    assert step(model, optimizer, 0.1) == pytest.approx(1.8)


@pytest.mark.parametrize("limit", [{"clip_grad_by_norm": 0.5}, {"clip_grad_by_value": 0.5}])
def test_clipped_gradient(limit):
    model = one_weight(2.0)
    optimizer = make_optimizer(model, OptimizerSettings(type="SGD", weight_decay=0.0, **limit), 1.0)
    assert step(model, optimizer, 0.1) == pytest.approx(1.95)


def test_state_fits_a_network_whose_parameters_have_other_paddle_names():
    first, second = one_weight(2.0), one_weight(2.0)
    assert first.weight.name != second.weight.name
    settings = OptimizerSettings(weight_decay=0.0)
    optimizer = make_optimizer(first, settings, 1.0)
    step(first, optimizer, 0.1)
    state = optimizer_state(optimizer, first)
    assert list(state) == ["weight/velocity_0"] and state["weight/velocity_0"] == np.float32(1)
    for _ in range(2):  # the second time the network has had an optimiser before
        second.weight.set_value(first.weight)
        resumed = make_optimizer(second, settings, 1.0)
        restore_optimizer(resumed, second, state)
        # v = 0.9 * 1 + 1 = 1.9; w = 1.9 - 0.1 * 1.9
        assert step(second, resumed, 0.1) == pytest.approx(1.71)
