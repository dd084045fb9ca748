"""What training by levels does not use is said, where it is not the shipped recipe's."""

from __future__ import annotations

import pytest

from picoquant.stages.plan import load_plan
from picoquant.stages.quantize import warn_of_unused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([], ""),
        (["TrainConfig.train_iter=60", "Distillation.teacher_model_dir=somewhere"], ""),
        (["TrainConfig.learning_rate.T_max=60"], "TrainConfig.learning_rate of the recipe is not used"),
        (
            ["Distillation.node=[a, b]", "Distillation.alpha=2.0"],
            "Distillation.alpha, Distillation.node of the recipe is not used: Quantize.training is levels; set it to "
            "configured to train by these keys",
        ),
        (["TrainConfig.learning_rate=0.1", "Quantize.training=configured"], ""),
        (["TrainConfig.learning_rate=0.1", "Quantize.method=ptq"], ""),
    ],
)
def test_it_is_said(changes, said, caplog):
    warn_of_unused(load_plan("picodet_s_qat_dis", changes).quantization)
    assert (said in caplog.text) if said else not caplog.text


def test_the_shipped_recipes_have_nothing_unused(caplog):
    warn_of_unused(load_plan("quickstart").quantization)
    assert not caplog.text
