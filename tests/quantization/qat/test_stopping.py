"""What ends training, beside the number of steps."""

from __future__ import annotations

import pytest

from picoquant.quantization.qat.checkpoint import Evaluated, QatProgress
from picoquant.quantization.qat.stopping import is_over
from picoquant.quantization.settings import QatTrainSettings


def over(evaluations, best_step, patience=None, original=None, steps=9, **train):
    step = evaluations[-1][0] if evaluations else 0
    progress = QatProgress(step, [Evaluated(*one) for one in evaluations], best_step, original)
    return is_over(progress, steps, patience, QatTrainSettings(train_iter=steps, **train))


def test_steps():
    assert not over([(4, 0.3)], 4, steps=5) and over([(5, 0.3)], 5, steps=5)


@pytest.mark.parametrize(("patience", "ended"), [(None, False), (2, True), (3, False)])
def test_evaluations_that_are_not_better(patience, ended):
    # Step 2 is the best; 4 and 6 are not better.
    assert over([(2, 0.5), (4, 0.5), (6, 0.4)], 2, patience) is ended


def test_a_target_is_reached_by_training_only():
    assert over([(0, 0.3), (2, 0.5)], 2, target_metric=0.4)
    assert not over([(0, 0.3), (2, 0.4)], 2, target_metric=0.4)  # it must be above
    assert not over([(0, 0.5), (2, 0.3)], 0, target_metric=0.4)  # calibration alone was


def test_half_a_percent_from_the_float_model_is_enough():
    assert over([(0, 0.3), (2, 0.3985)], 2, original=0.4)
    assert not over([(0, 0.3), (2, 0.397)], 2, original=0.4)
