"""What `TrainConfig` names is made, or refused by its key."""

from __future__ import annotations

import paddle
import pytest

from picoquant.errors import ConfigError
from picoquant.quantization.qat.optimisers import make_optimizer, make_schedule
from picoquant.quantization.settings import QatTrainSettings


def made(rate, **optimizer):
    train = QatTrainSettings(train_iter=1, learning_rate=rate, optimizer_builder={"optimizer": optimizer})
    parameters = [paddle.create_parameter([2], "float32")]
    return make_schedule(train), make_optimizer(train, parameters)


def test_classes_and_their_arguments():
    rate, optimizer = made(
        {"type": "CosineAnnealingDecay", "learning_rate": 0.5, "T_max": 8}, type="Momentum"
    )
    assert (rate(), rate.T_max, optimizer._momentum) == (0.5, 8, 0.9)
    assert made(0.1, type="Momentum", momentum=0.5)[1]._momentum == 0.5
    made(0.1, type="Lamb")  # has no weight_decay, and none was given


@pytest.mark.parametrize(
    ("rate", "optimizer", "said"),
    [
        (0.1, {"type": "Momentum", "momentm": 0.9},
         r"TrainConfig.optimizer_builder.optimizer: unknown key momentm \(did you mean momentum\?\)"),
        ({"type": "CosineAnnealingDecay", "learning_rate": 0.1}, {"type": "SGD"},
         "TrainConfig.learning_rate: T_max is missing; CosineAnnealingDecay needs it"),
        (0.1, {"type": "Momentum", "momentum": None},
         "optimizer: Momentum of paddle.optimizer does not take {'momentum': None}"),
        ({"type": "CosineAnnealingDecay", "learning_rate": 0.1, "T_max": "eight"}, {"type": "SGD"},
         "learning_rate: CosineAnnealingDecay of paddle.optimizer.lr does not take .*'T_max': 'eight'"),
    ],
)  # fmt: skip
def test_arguments_that_a_class_does_not_take(rate, optimizer, said):
    with pytest.raises(ConfigError, match=said) as caught:
        made(rate, **optimizer)
    assert "__init__" not in str(caught.value)
