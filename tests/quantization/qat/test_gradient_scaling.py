"""An equalised network learns as the network it was made from."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.int8.fake_quant_run import Simulation
from picoquant.paddle_program.static.programs import read_variable, state_names, strip_feed_fetch
from picoquant.paddle_program.static.session import quiet, static_session
from picoquant.quantization.ptq.equalisation import equalise, weight_scales
from picoquant.quantization.ptq.equalisation_scales import read_scales, write_scales
from picoquant.quantization.qat.gradient_scaling import is_constant, is_trainable, scale_gradients
from tests.networks.small_net import loaded_and_folded
from tests.quantization.ptq.test_equalisation import Uneven, ranges_of

FEED = {"image": np.random.RandomState(1).rand(2, 3, 8, 8).astype("float32")}


@pytest.fixture
def opened(tmp_path):
    """Gives a function: arguments of `Uneven`, whether it is equalised -> model, executor, scales."""

    def open_network(activation, between, equalised):
        model, executor = loaded_and_folded(lambda: Uneven(activation, between), tmp_path, (3, 8, 8))
        if not equalised:
            return model, executor, {}
        done = equalise(model, paddle.static.global_scope(), ranges_of(model, executor, FEED))
        return model, executor, weight_scales(done)

    with static_session():
        yield open_network


def outputs(model, executor):
    return Simulation(model, executor, {})(FEED)[0]


def train(model, executor, scales, steps=3):
    """Steps of SGD with momentum and weight decay that make the outputs smaller; nothing is rounded."""
    with quiet():
        from paddleslim.common.recover_program import recover_inference_program
    program = strip_feed_fetch(recover_inference_program(model.program.clone(), paddle.static.Program()))
    startup, scope = paddle.static.Program(), paddle.static.global_scope()
    with paddle.static.program_guard(program, startup):
        result = program.global_block().var(model.fetches[0].name)
        loss = paddle.mean(result * result)
        optimizer = paddle.optimizer.Momentum(1e-6, 0.9, weight_decay=0.01)
        weights = [
            one for one in program.all_parameters() if is_trainable(one) and not is_constant(one.name, scales)
        ]
        gradients = optimizer.backward(loss, startup, weights)
        optimizer.apply_gradients(scale_gradients(program, scope, gradients, scales))
    executor.run(startup)
    for _ in range(steps):
        executor.run(program, feed=FEED, fetch_list=[])


@pytest.mark.parametrize(
    ("activation", "between"),
    [(nn.functional.relu, "pool"), (nn.functional.hardswish, "concat"), (None, "")],
)
def test_a_few_steps_are_those_of_the_plain_network(opened, activation, between):
    model, executor, _ = opened(activation, between, False)
    before = outputs(model, executor)
    train(model, executor, {})
    expected = outputs(model, executor) - before
    assert np.abs(expected).max() > 0.01 * np.abs(before).max()
    model, executor, scales = opened(activation, between, True)
    assert scales
    train(model, executor, scales)
    change = outputs(model, executor) - before
    np.testing.assert_allclose(change, expected, atol=0.02 * np.abs(expected).max())


def test_scales_are_what_the_weights_were_multiplied_by(opened, tmp_path):
    model, _, _ = opened(nn.functional.hardswish, "concat", False)
    scope = paddle.static.global_scope()
    before = {name: read_variable(scope, name) for name in state_names(model.program)}
    model, _, scales = opened(nn.functional.hardswish, "concat", True)
    constants = {name for name in scales if is_constant(name, scales)}
    assert sorted(name.rsplit(".", 1)[1] for name in constants) == ["factor", "three"]
    weights = set(scales) - constants
    assert len(weights) == 3  # a weight and a bias before, a weight behind; its bias stays
    for name in weights:
        value = read_variable(scope, name)
        np.testing.assert_allclose(value, before[name] * scales[name], rtol=1e-5)
        assert np.abs(value / before[name] - 1).max() > 0.9
    write_scales(tmp_path, scales)
    found = read_scales(tmp_path)
    assert found.keys() == scales.keys() and all((found[name] == scales[name]).all() for name in found)
    assert read_scales(tmp_path / "nothing") == {}
