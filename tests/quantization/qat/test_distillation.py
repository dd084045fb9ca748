"""Distillation losses against hand-worked numbers."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.paddle_program.static.session import quiet, static_session

TEACHER = np.log(np.array([[1.0, 1.0, 2.0], [1.0, 2.0, 1.0]], np.float32))
STUDENT = np.log(np.array([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]], np.float32))
# One of two rows differs: (ln 2)^2 twice, of six values.
L2 = 2 * np.log(2) ** 2 / 6
# Cross-entropies of (1/4, 1/4, 1/2) against (1/4, 1/2, 1/4), and of (1/4, 1/2, 1/4) with itself.
SOFT_LABEL = ((1 / 4 + 1 / 2) * np.log(4) + 1 / 4 * np.log(2) + 1 / 2 * np.log(4) + 1 / 2 * np.log(2)) / 2


def loss_of(pairs, losses, alphas):
    with quiet():
        from picoquant.quantization.qat.distillation import distillation_loss
    with static_session():
        main = paddle.static.Program()
        with paddle.static.program_guard(main):
            for name in ("teacher_a", "a"):
                paddle.static.data(name, [-1, 3])
            loss = distillation_loss(pairs, losses, alphas)
        feed = {"teacher_a": TEACHER, "a": STUDENT}
        return float(paddle.static.Executor().run(main, feed=feed, fetch_list=[loss])[0])


@pytest.mark.parametrize(("name", "expected"), [("l2", L2), ("soft_label", SOFT_LABEL)])
def test_one_loss(name, expected):
    assert loss_of(["teacher_a", "a"], name, 2.0) == pytest.approx(2 * expected, rel=1e-5)


def test_groups_count_once_each():
    pair = ["teacher_a", "a"]
    assert loss_of([pair, pair], ["l2", "l2"], [1.0, 0.5]) == pytest.approx(1.5 * L2, rel=1e-5)
    found = loss_of([pair, pair], ["l2", "soft_label"], [1.0, 0.5])
    assert found == pytest.approx(L2 + 0.5 * SOFT_LABEL, rel=1e-5)
