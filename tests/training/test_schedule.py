"""Learning rates against PaddleDetection's own sequences and by hand."""

from __future__ import annotations

import json

import pytest

from picoquant.errors import ConfigError
from picoquant.training.schedule import learning_rate, tell_where_it_ends
from picoquant.training.settings import (
    CosineDecay,
    ExpWarmup,
    LearningRate,
    LinearWarmup,
    PiecewiseDecay,
    TrainSettings,
)

SCHEDULES = {
    "lr_npu_s.json": LearningRate(
        0.2, (CosineDecay(max_epochs=300, min_lr_ratio=0.08, last_plateau_epochs=30), ExpWarmup(epochs=2))
    ),
    "lr_lcnet_s.json": LearningRate(
        0.32, (CosineDecay(max_epochs=300), LinearWarmup(steps=300, start_factor=0.1))
    ),
}


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_equals_paddledetection(shared, name):
    golden = json.loads((shared / "alignment" / name).read_text())
    rates = {
        step: learning_rate(SCHEDULES[name], int(step), golden["steps_per_epoch"]) for step in golden["lr"]
    }
    assert rates == pytest.approx(golden["lr"], rel=1e-9, abs=1e-15)


def test_linear_warmup_then_steps_down():
    # 10 steps an epoch. Warm-up of 4 steps from 1/2: 0.5, 0.625, 0.75, 0.875; then 1 until epoch 2,
    # 0.1 until epoch 3, 0.01 after.
    settings = LearningRate(1.0, (PiecewiseDecay(milestones=(2, 3)), LinearWarmup(4, 0.5)))
    rates = [learning_rate(settings, step, 10) for step in (0, 1, 2, 3, 4, 19, 20, 29, 30, 99)]
    assert rates == pytest.approx([0.5, 0.625, 0.75, 0.875, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_one_gamma_is_divided_by_ten_at_each_further_milestone():
    settings = LearningRate(2.0, (PiecewiseDecay(gamma=0.5, milestones=(1, 2), use_warmup=False),))
    assert [learning_rate(settings, epoch * 3, 3) for epoch in range(3)] == pytest.approx([2.0, 1.0, 0.1])


def test_piecewise_values_replace_gamma():
    decay = PiecewiseDecay(milestones=(1, 2), values=(3.0, 2.0, 1.0), use_warmup=False)
    assert [learning_rate(LearningRate(9.0, (decay,)), step, 1) for step in range(4)] == [3.0, 2.0, 1.0, 1.0]


def test_cosine_without_warmup_ignores_one_that_is_listed():
    # Half a cosine over 4 steps from 1 to 0: 1, (1 + sqrt(1/2)) / 2, 1/2 …
    settings = LearningRate(1.0, (CosineDecay(max_epochs=4, use_warmup=False), ExpWarmup(steps=100)))
    rates = [learning_rate(settings, step, 1) for step in range(3)]
    assert rates == pytest.approx([1.0, (1 + 0.5**0.5) / 2, 0.5])


def test_a_warmup_longer_than_training_ends_at_the_base_rate():
    settings = LearningRate(1.0, (CosineDecay(max_epochs=1), LinearWarmup(steps=10, start_factor=0.0)))
    assert [learning_rate(settings, step, 5) for step in (0, 5, 10, 20)] == [0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LearningRate(0.1, (ExpWarmup(),)), "LearningRate.schedulers"),
        (lambda: LearningRate(-1.0), "LearningRate.base_lr"),
        (lambda: PiecewiseDecay(gamma=(0.1,), milestones=(1, 2)), "PiecewiseDecay.gamma"),
        (lambda: PiecewiseDecay(milestones=(3, 2)), "PiecewiseDecay.milestones"),
        (lambda: CosineDecay(max_epochs=0), "CosineDecay.max_epochs"),
        (lambda: TrainSettings(epochs=0), "epoch"),
    ],
)
def test_settings_that_cannot_be_used_name_their_key(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


COSINE = (CosineDecay(max_epochs=300), LinearWarmup(steps=20, start_factor=0.1))
SHORT = "epoch is 30 and CosineDecay.max_epochs 300, so that the rate ends at 0.98 of base_lr 0.2"


@pytest.mark.parametrize(
    ("settings", "epochs", "others", "said"),
    [
        (LearningRate(0.2, COSINE), 300, {"mosaic_epoch": 180}, ""),
        (LearningRate(0.2, COSINE), 250, {}, ""),  # as published for PicoDet-L
        (LearningRate(0.2, COSINE), 30, {}, SHORT),
        (
            LearningRate(0.2, COSINE),
            30,
            {"TrainReader.mosaic_epoch": 180, "x": 20},
            "a low rate; TrainReader.mosaic_epoch 180 is not reached either\n",
        ),
        (
            LearningRate(0.2, COSINE),
            600,
            {},
            "max_epochs 300, so that the last 300 epochs have 2.8e-07 of base_lr 0.2",
        ),
        (LearningRate(0.2, COSINE), 2, {}, "the warm-up takes 20 steps and the training has 20"),
        (
            LearningRate(0.2, (PiecewiseDecay((0.1, 0.01), (8, 11)),)),
            5,
            {},
            "and PiecewiseDecay.milestones 11",
        ),
        (LearningRate(0.2, (PiecewiseDecay((0.1, 0.01), (8, 11)),)), 10, {}, ""),
        (LearningRate(0.0, COSINE), 3, {}, ""),
    ],
)
def test_a_training_much_shorter_or_longer_than_its_schedule_is_said(settings, epochs, others, said, caplog):
    tell_where_it_ends(settings, epochs, 10, others)
    assert (said in caplog.text) if said else not caplog.text
