"""The moving average against PaddleDetection's own."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest

from picoquant.training.ema import Ema
from picoquant.training.settings import EmaSettings

GOLDEN = {
    '{"decay": 0.9998, "ema_decay_type": "threshold", "cycle_epoch": -1}': EmaSettings(),
    '{"decay": 0.9998, "ema_decay_type": "normal", "cycle_epoch": 40}': EmaSettings(
        decay_type="normal", cycle_epoch=40
    ),
    '{"decay": 0.9998, "ema_decay_type": "exponential", "cycle_epoch": -1}': EmaSettings(
        decay_type="exponential"
    ),
    '{"decay": 0.9998, "ema_decay_type": "threshold", "cycle_epoch": 2}': EmaSettings(cycle_epoch=2),
}


def updates(model: paddle.nn.Linear, ema: Ema, random: np.random.RandomState, count: int) -> None:
    # The golden file does not store the weights that were averaged. They were found from its values:
    # standard normal numbers of RandomState(1), weight before bias, 5 updates an epoch.
    for _ in range(count):
        model.weight.set_value(random.randn(2, 2).astype("float32"))
        model.bias.set_value(random.randn(2).astype("float32"))
        ema.update()


@pytest.mark.parametrize("key", sorted(GOLDEN))
def test_equals_paddledetection(shared, key):
    golden = json.loads((shared / "alignment/ema.json").read_text())[key]
    model, random = paddle.nn.Linear(2, 2), np.random.RandomState(1)
    ema = Ema(model, GOLDEN[key])
    for expected in golden:
        updates(model, ema, random, 5)
        weights = ema.weights()
        for name, values in expected.items():
            # Debiasing divides by 1 - 0.9998^5 = 0.001, which enlarges the rounding of float32.
            np.testing.assert_allclose(weights[name].flatten(), values, atol=2e-6, rtol=2e-5)


def test_black_listed_and_frozen_parameters_keep_their_value():
    model = paddle.nn.Sequential(paddle.nn.Linear(1, 1), paddle.nn.BatchNorm2D(1), paddle.nn.Linear(1, 1))
    model[2].weight.stop_gradient = True
    ema = Ema(model, EmaSettings(decay=0.5, decay_type="normal", black_list=("0.bias",), filter_no_grad=True))
    for value in (1.0, 3.0):
        for tensor in model.state_dict().values():
            tensor.set_value(paddle.full(tensor.shape, value))
        ema.update()
    weights = {name: float(value.item()) for name, value in ema.weights().items()}
    # ((0 * 0.5 + 0.5 * 1) * 0.5 + 0.5 * 3) / (1 - 0.5^2) = 7 / 3; batch norm's statistics are averaged.
    averaged = 7 / 3
    assert weights == pytest.approx(
        {
            "0.weight": averaged,
            "0.bias": 3.0,
            "1.weight": averaged,
            "1.bias": averaged,
            "1._mean": averaged,
            "1._variance": averaged,
            "2.weight": 3.0,
            "2.bias": averaged,
        }
    )


def test_a_tensor_with_two_names_has_one_average():
    model = paddle.nn.Sequential(paddle.nn.Linear(1, 1))
    model.add_sublayer("again", model[0])
    ema = Ema(model, EmaSettings())
    ema.update()
    weights = ema.weights()
    assert weights["0.weight"] == weights["again.weight"]


def test_restored_average_goes_on_as_if_nothing_happened():
    model, random = paddle.nn.Linear(2, 2), np.random.RandomState(0)
    undisturbed = Ema(model, EmaSettings(cycle_epoch=2))
    updates(model, undisturbed, random, 3)
    undisturbed.weights()
    restored = Ema(model, EmaSettings(cycle_epoch=2))
    restored.restore(*undisturbed.state())
    for _ in range(3):
        undisturbed.update()
        restored.update()
        left, right = undisturbed.weights(), restored.weights()
        assert all(np.array_equal(left[name], right[name]) for name in left)
