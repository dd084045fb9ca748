"""Gradients of PACT's and LSQ's ranges against hand-worked numbers, and short trainings with LSQ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.errors import ConfigError
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.qat.learned_ranges.choose import range_strategy
from picoquant.quantization.qat.learned_ranges.lsq import Lsq
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.learned_ranges.pact import Pact
from picoquant.quantization.qat.learned_ranges.strategy import ActivationRange, RangeStrategy
from picoquant.quantization.settings import QuantizationSettings
from tests.networks.small_net import batches, settings
from tests.quantization.test_quantize import predictions, run

# Outside, outside, within, on the limit, on the negative limit, nothing.
VALUES = np.array([3.0, -2.5, 0.503, 2.0, -2.0, 0.0], np.float32).reshape(1, 1, 2, 3)
UPSTREAM = np.array([1.0, -10.0, 100.0, 1e3, 1e4, 1e5], np.float32).reshape(1, 1, 2, 3)
LIMIT = 2.0


def gradients(strategy: RangeStrategy, rectified: bool = False) -> tuple[float, np.ndarray]:
    """Gradients of the range and of the values, whose range is 2."""
    found = one_range(
        strategy, 1 - 1e-9, rectified
    )  # a moving rate near 1: PACT's average stays at its start
    values = paddle.to_tensor(VALUES, stop_gradient=False)
    rounded = found(paddle.nn.functional.relu(values) if rectified else values, True)
    (rounded * paddle.to_tensor(UPSTREAM)).sum().backward()
    (parameter,) = found.learned
    assert parameter.grad.shape == [1]
    return parameter.grad.item(), values.grad.numpy()


def one_range(strategy: RangeStrategy, moving_rate: float, non_negative: bool = False) -> ActivationRange:
    wanted = QuantAwareSettings(moving_rate=moving_rate)
    found = strategy.range_of("values", wanted, non_negative, (-1, 1, 2, 3))
    found.initialise(LIMIT)
    return found


def test_pact_counts_what_is_above_the_limit():
    gradient, of_values = gradients(Pact())
    # 3.0 is above the limit, -2.5 below the negative one; what lies on a limit is not clipped.
    assert gradient == pytest.approx(1.0 - (-10.0))
    np.testing.assert_array_equal(of_values.ravel(), [0, 0, 100, 1e3, 1e4, 1e5])


def test_pact_behind_an_activation_without_negative_values():
    gradient, of_values = gradients(Pact(), rectified=True)
    assert gradient == pytest.approx(1.0)
    # ReLU lets nothing of what is not above 0 through.
    np.testing.assert_array_equal(of_values.ravel(), [0, 0, 100, 1e3, 0, 0])


def test_pact_within_the_limit_passes_everything():
    found = one_range(Pact(), 0.5)
    found.initialise(3.0)  # the largest of the values
    values = paddle.to_tensor(VALUES, stop_gradient=False)
    (found(values, True) * paddle.to_tensor(UPSTREAM)).sum().backward()
    assert found.learned[0].grad.item() == 0.0  # there, so that its decay goes on
    np.testing.assert_array_equal(values.grad.numpy(), UPSTREAM)


@pytest.mark.parametrize("strategy", [MovingAverage(), Pact(), Lsq()])
def test_an_image_needs_no_gradient(strategy):
    found = one_range(strategy, 0.9)
    weight = paddle.ones([1])
    weight.stop_gradient = False
    (found(paddle.to_tensor(VALUES), True) * weight).sum().backward()
    assert np.isfinite(weight.grad.item())


def test_lsq_is_the_papers_gradient():
    gradient, of_values = gradients(Lsq())
    # Q for what is at or above the range, -Q below; round(v / s) - v / s within: s = 2 / 127 and
    # 0.503 / s = 31.9405, rounded to 32.
    of_step = 127 * (1.0 + 1e3) - 127 * (-10.0 + 1e4) + (32 - 0.503 * 63.5) * 100
    scale = 1 / np.sqrt(6 * 127)
    # The step's gradient, in terms of the range r = 127 s, moves r by 127 times as much.
    assert gradient == pytest.approx(127 * of_step * scale, rel=1e-4)
    np.testing.assert_array_equal(of_values.ravel(), [0, 0, 100, 0, 0, 1e5])


@pytest.mark.parametrize(
    ("learned", "use_pact", "expected"),
    [("none", False, MovingAverage), ("none", True, Pact), ("lsq", False, Lsq)],
)
def test_the_settings_choose_the_strategy(learned, use_pact, expected):
    settings = QuantizationSettings(learned_ranges=learned, lsq_rate=3.0)
    strategy = range_strategy(settings, QuantAwareSettings(use_pact=use_pact))
    assert type(strategy) is expected
    assert not isinstance(strategy, Lsq) or strategy.rate == 3.0


def range_after_a_batch(strategy: RangeStrategy, moving_rate: float) -> tuple[float, list[str]]:
    """The range of an activation that started at 2 and has seen one batch with absmax 3; names of parameters."""
    found = one_range(strategy, moving_rate)
    found(paddle.to_tensor(VALUES), True)
    return found.stored["values@scale"].item(), [one.name for one in found.learned]


@pytest.mark.parametrize("strategy", [MovingAverage(), Pact(), Lsq()])
def test_what_does_not_follow_stays(strategy):
    found = one_range(strategy, 0.5)
    before = {name: one.numpy() for name, one in found.stored.items()}
    found(paddle.to_tensor(VALUES), False)
    with paddle.no_grad():
        found(paddle.to_tensor(VALUES), False)
    assert all(one.numpy() == before[name] for name, one in found.stored.items())


def test_what_a_batch_does_to_each_range():
    # An average of 1 + r + r^2 + ... = 2 batches at 2 and one, weighing 1, at 3: (0.5 * 2 * 2 + 3) / (0.5 * 2 + 1).
    assert range_after_a_batch(MovingAverage(), 0.5) == (pytest.approx(2.5), [])
    assert range_after_a_batch(Pact(), 0.5) == (pytest.approx(2.0), ["values_pact"])  # 3 is cut at the limit
    assert range_after_a_batch(Lsq(), 0.5) == (pytest.approx(2.0), ["values@scale"])  # only gradients move it


def with_lsq(steps, rate, lsq_rate=1.0):
    own = QuantizationSettings(learned_ranges="lsq", lsq_rate=lsq_rate)
    return replace(settings(steps, learning_rate=rate), quantization=own)


def test_lsq_learns_ranges_and_writes_them(small_model, tmp_path):
    import json

    def ranges(folder):
        described = json.loads((folder / "model/quantization.json").read_text())
        return {one["activation"]: one["activation_range"] for one in described["operators"]}

    run(small_model, tmp_path / "start", with_lsq(1, 1e-12))
    run(small_model, tmp_path / "learnt", with_lsq(40, 1e-3, 100.0))
    start, learnt = ranges(tmp_path / "start"), ranges(tmp_path / "learnt")
    assert start.keys() == learnt.keys() and len(start) == 4
    assert max(abs(learnt[name] / start[name] - 1) for name in start) > 1e-3
    losses = np.loadtxt(tmp_path / "learnt/model/qat.csv", delimiter=",", skiprows=1, usecols=1)
    assert losses[-10:].mean() < losses[:10].mean()
    assert all(
        np.isfinite(value).all() for value in predictions(tmp_path / "learnt/model", next(batches(100)))
    )


def test_interrupted_lsq_run_ends_as_an_undisturbed_one(small_model, tmp_path):
    wanted = with_lsq(4, 1e-2)
    run(small_model, tmp_path / "whole", wanted)
    calls = []

    def once(start):
        calls.append(start)
        for number, feed in enumerate(batches(start)):
            if len(calls) == 2 and number == 2:
                raise KeyboardInterrupt
            yield feed

    from picoquant.quantization.quantize import quantize
    from tests.networks.small_net import CONFIG

    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        quantize(small_model, folder / "model", folder / "work", once, wanted, config=CONFIG)
    run(small_model, folder, wanted)
    for name in ("model.pdmodel", "model.pdiparams", "qat.csv"):
        assert (folder / "model" / name).read_bytes() == (tmp_path / "whole/model" / name).read_bytes()


def test_both_ways_to_learn_ranges_are_refused():
    with pytest.raises(ConfigError, match=r"lsq and QuantAware.use_pact: true both learn"):
        replace(settings(1, {"use_pact": True}), quantization=QuantizationSettings(learned_ranges="lsq"))
