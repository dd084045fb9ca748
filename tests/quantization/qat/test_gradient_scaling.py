"""An equalised network learns as the network it was made from."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.ptq.equalisation.equalise import weight_scales
from picoquant.quantization.ptq.equalisation.scales import read_scales, write_scales
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.student import open_student
from tests.networks.small_net import loaded_and_folded
from tests.quantization.ptq.equalisation.test_equalise import Uneven, equalised

FEED = {"image": np.random.RandomState(1).rand(2, 3, 8, 8).astype("float32")}


@pytest.fixture
def opened(tmp_path):
    """Gives a function: arguments of `Uneven`, whether it is equalised -> model, scales."""

    def open_network(activation, between, is_equalised):
        model = loaded_and_folded(lambda: Uneven(activation, between), tmp_path, (3, 8, 8))
        done = []
        if is_equalised:
            done = equalised(model, FEED)
        model.save(tmp_path)
        write_scales(tmp_path, weight_scales(done))
        return model, weight_scales(done)

    yield open_network


def change_of_outputs(folder, steps=3):
    """What steps of SGD with momentum and weight decay that make the outputs smaller change; nothing is rounded."""
    student = open_student(folder, (), QuantAwareSettings(), MovingAverage(), Convolutions(True))
    network, names = student.network, student.graph.outputs
    feed = {"image": paddle.to_tensor(FEED["image"])}
    optimizer = paddle.optimizer.Momentum(1e-6, 0.9, network.trained(), weight_decay=0.01)
    before = network(feed, names)[0].numpy()
    for _ in range(steps):
        (result,) = network(feed, names)
        paddle.mean(result * result).backward()
        student.scale_gradients()
        optimizer.step()
        optimizer.clear_grad()
    return network(feed, names)[0].numpy() - before, np.abs(before).max()


@pytest.mark.parametrize(
    ("activation", "between"),
    [(nn.functional.relu, "pool"), (nn.functional.hardswish, "concat"), (None, "")],
)
def test_a_few_steps_are_those_of_the_plain_network(opened, tmp_path, activation, between):
    opened(activation, between, False)
    expected, largest = change_of_outputs(tmp_path)
    assert np.abs(expected).max() > 0.01 * largest
    assert opened(activation, between, True)[1]
    change, _ = change_of_outputs(tmp_path)
    np.testing.assert_allclose(change, expected, atol=0.02 * np.abs(expected).max())


def test_constants_of_equalisation_are_not_trained(opened, tmp_path):
    _, scales = opened(nn.functional.hardswish, "concat", True)
    student = open_student(tmp_path, (), QuantAwareSettings(), MovingAverage(), Convolutions(True))
    trained = {one.name for one in student.network.trained()}
    constants = {name for name in scales if not scales[name].any()}
    assert len(constants) == 2 and not constants & trained
    assert trained == set(student.network.stored) - constants
    assert set(student.factors) == set(scales) - constants


def test_scales_are_what_the_weights_were_multiplied_by(opened, tmp_path):
    model, _ = opened(nn.functional.hardswish, "concat", False)
    before = dict(model.values)
    model, scales = opened(nn.functional.hardswish, "concat", True)
    constants = {name for name in scales if not scales[name].any()}
    assert sorted(name.rsplit(".", 1)[1] for name in constants) == ["factor", "three"]
    weights = set(scales) - constants
    assert len(weights) == 3  # a weight and a bias before, a weight behind; its bias stays
    for name in weights:
        value = model.values[name]
        np.testing.assert_allclose(value, before[name] * scales[name], rtol=1e-5)
        assert np.abs(value / before[name] - 1).max() > 0.9
    write_scales(tmp_path, scales)
    found = read_scales(tmp_path)
    assert found.keys() == scales.keys() and all((found[name] == scales[name]).all() for name in found)
    assert read_scales(tmp_path / "nothing") == {}
