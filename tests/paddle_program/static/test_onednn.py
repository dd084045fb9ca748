"""Convolutions through oneDNN take their weights as they are, also in a program that ran with others."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.int8.fake_quant_run import Simulation
from picoquant.paddle_program.static.programs import (
    load_model,
    read_variable,
    state_names,
    write_variable,
)
from picoquant.paddle_program.static.session import static_session
from tests.networks.small_net import batches, export_small


@pytest.fixture
def opened(tmp_path):
    """The small network in a static session, an executor, a feed, and what gives all weights other values."""
    export_small(tmp_path)
    with static_session():
        executor = paddle.static.Executor(paddle.CPUPlace())
        model, scope = load_model(tmp_path, executor), paddle.static.global_scope()
        random = np.random.RandomState(0)

        def change():
            for name in state_names(model.program):
                shape = read_variable(scope, name).shape
                if len(shape) == 4:
                    write_variable(scope, name, random.randn(*shape).astype(np.float32))

        yield model, executor, {"image": next(batches(1))["image"]}, change


def test_a_simulation_sees_weights_that_have_changed(opened):
    model, executor, feed, change = opened
    simulation, plain = (Simulation(model, executor, {}, onednn=onednn) for onednn in (True, False))
    for _ in range(3):
        for got, expected in zip(simulation(feed), plain(feed)):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
        change()
