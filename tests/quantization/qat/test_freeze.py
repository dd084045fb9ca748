"""Ranges and statistics that stay as they are in the last part of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.paddle_program.static.programs import read_variable, write_variable
from picoquant.paddle_program.static.session import static_session
from picoquant.quantization.qat.freeze import freeze_ranges_and_statistics, freeze_step
from picoquant.quantization.settings import QuantizationSettings
from picoquant.storage.checkpoints import Checkpoints
from tests.networks.small_net import settings
from tests.quantization.test_quantize import run


def last_state(folder):
    return Checkpoints(folder / "work/checkpoints").newest().arrays["last"]


@pytest.mark.parametrize(
    ("pact", "learned"), [(False, "none"), (True, "none"), (False, "lsq")], ids=["average", "pact", "lsq"]
)
def test_the_last_half_changes_weights_only(small_model, tmp_path, pact, learned):
    own = QuantizationSettings(learned_ranges=learned, fold_batch_norm=False)
    wanted = settings(2, {"use_pact": pact}, learning_rate=5e-3)
    run(small_model, tmp_path / "half", replace(wanted, quantization=own))
    wanted = settings(4, {"use_pact": pact}, learning_rate=5e-3)
    run(small_model, tmp_path / "frozen", replace(wanted, quantization=replace(own, freeze_last=0.5)))
    run(small_model, tmp_path / "free", replace(wanted, quantization=own))
    half, frozen, free = (last_state(tmp_path / name) for name in ("half", "frozen", "free"))
    activations = ("image", "relu6_0.tmp_0", "relu6_1.tmp_0", "relu6_2.tmp_0")
    fixed = [f"{name}@scale" for name in activations]
    fixed += [f"{name}_pact" for name in activations] if pact else []
    fixed += [name for name in half if name.startswith("batch_norm") and name.endswith((".w_1", ".w_2"))]
    assert len(fixed) == 4 + (4 if pact else 0) + 6
    for name in fixed:
        np.testing.assert_array_equal(frozen[name], half[name], err_msg=name)
        # Limits that nothing reaches and the statistics of an exported batch-norm do not move at all.
        moves = name.endswith("@scale") and not name.startswith("image")
        assert not moves or not np.array_equal(free[name], half[name]), name
    weights = [name for name in half if name.endswith("w_0") and name.startswith(("conv", "batch_norm"))]
    assert len(weights) == 5 + 3
    assert all(not np.array_equal(frozen[name], half[name]) for name in weights)


def test_batch_norm_that_follows_batches_stops_and_is_normalised_by_what_it_has():
    with static_session() as scope:
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup):
            values = paddle.static.data("values", [-1, 1, 1, 1])
            result = paddle.static.nn.batch_norm(
                values, moving_mean_name="mean", moving_variance_name="variance"
            )
            paddle.optimizer.SGD(0.1).minimize(paddle.mean(result))
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(startup)
        feed = {"values": np.array([1.0, 3.0], np.float32).reshape(2, 1, 1, 1)}
        executor.run(main, feed=feed)
        # The mean of the batch is 2, its weight in the running one 0.1.
        assert read_variable(scope, "mean") == pytest.approx(0.2)
        write_variable(scope, "variance", np.array([4.0], np.float32))
        for name, value in (("batch_norm_0.w_0", 1.0), ("batch_norm_0.b_0", 0.0)):
            write_variable(scope, name, np.array([value], np.float32))
        copy = freeze_ranges_and_statistics(main, ())
        (found,) = executor.run(copy, feed=feed, fetch_list=[result.name])
        assert read_variable(scope, "mean") == pytest.approx(0.2)
        np.testing.assert_allclose(found.ravel(), [0.4, 1.4], rtol=1e-4)  # (1 - 0.2) / 2, (3 - 0.2) / 2
        # d mean / d scale is the mean of the normalised values, 0.9.
        assert read_variable(scope, "batch_norm_0.w_0") == pytest.approx(1.0 - 0.1 * 0.9, rel=1e-4)


def test_steps_that_are_frozen():
    assert [freeze_step(10, part) for part in (0.0, 0.2, 0.5)] == [10, 8, 5]
