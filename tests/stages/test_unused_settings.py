"""Settings of quantisation that others make useless are said, where they are not the shipped recipe's."""

from __future__ import annotations

import pytest

from picoquant.quantization.settings import QatTrainSettings
from picoquant.stages.plan import load_plan
from picoquant.stages.quantize import tell_where_the_rate_ends, warn_of_unused


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
        (["Quantize.method=ptq"], ""),
        (
            ["TrainConfig.learning_rate=0.1", "Quantize.method=ptq", "Quantize.patience=3"],
            "TrainConfig.learning_rate, Quantize.patience of the recipe is not used: Quantize.method is ptq, which "
            "does not train; set it to qat",
        ),
        (
            ["Quantize.percentile=99.9"],
            "Quantize.percentile of the recipe is not used: Quantize.ranges is detections",
        ),
        (["Quantize.percentile=99.9", "Quantize.ranges=percentile"], ""),
        (["Quantize.level_rate=0.1"], ""),
        (
            ["Quantize.level_rate=0.1", "Quantize.training=configured"],
            "Quantize.level_rate of the recipe is not used",
        ),
        (["Quantize.lsq_rate=2"], "Quantize.lsq_rate of the recipe is not used: Quantize.training is levels"),
        (
            ["Quantize.lsq_rate=2", "Quantize.training=configured"],
            "Quantize.lsq_rate of the recipe is not used",
        ),
        (
            ["Quantize.channel_copies=2", "Quantize.cross_layer_equalisation=false"],
            "Quantize.channel_copies of the recipe is not used",
        ),
        (
            ["Global.Evaluation=false", "Quantize.patience=2", "TrainConfig.target_metric=0.3"],
            "Quantize.patience, TrainConfig.target_metric of the recipe is not used: Global.Evaluation is false",
        ),
        (["Quantize.patience=2", "TrainConfig.target_metric=0.3"], ""),
    ],
)
def test_it_is_said(changes, said, caplog):
    warn_of_unused(load_plan("picodet_s_qat_dis", changes))
    assert (said in caplog.text) if said else not caplog.text


def test_the_shipped_recipes_have_nothing_unused(caplog):
    warn_of_unused(load_plan("quickstart"))
    assert not caplog.text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train_iter": 100}, ""),  # a number has no end
        ({"train_iter": 100, "learning_rate": {"type": "CosineAnnealingDecay", "T_max": 100}}, ""),
        (
            {"train_iter": 100, "learning_rate": {"type": "CosineAnnealingDecay", "T_max": 8000}},
            "hardly falls",
        ),
        ({"train_iter": 100, "learning_rate": {"type": "CosineAnnealingDecay", "T_max": 50}}, "rises again"),
        ({"epochs": 2, "learning_rate": {"type": "CosineAnnealingDecay", "T_max": 100}}, "has 20 steps"),
    ],
)
def test_a_rate_that_ends_elsewhere_is_said(settings, said, caplog):
    tell_where_the_rate_ends(QatTrainSettings(**settings), 10)
    assert (said in caplog.text) if said else not caplog.text
