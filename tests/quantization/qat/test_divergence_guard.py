"""QAT that diverges goes back, and ends with the best model."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from picoquant.errors import ConfigError, UserError
from picoquant.quantization.qat.divergence_guard import GoodState, GoodStates, LossWatch, collapsed
from picoquant.quantization.quantize import quantize
from picoquant.quantization.score import Score
from picoquant.quantization.settings import QuantizationSettings
from tests.networks.small_net import CONFIG, batches, settings
from tests.quantization.test_quantize import Recorder, predictions, run


def alarms(losses, rise=4.0):
    """Step and text of the alarms over a sequence of losses."""
    watch = LossWatch()
    found = ((step, watch.see(loss, rise)) for step, loss in enumerate(losses, start=1))
    return [(step, text) for step, text in found if text]


def test_noise_and_a_hard_batch_are_no_rise():
    losses = list(1 + 0.5 * np.random.RandomState(0).rand(200))
    losses[100] = 50.0
    assert alarms(losses) == []


def test_a_jump_is_noticed_at_its_second_step():
    # The median of the last three is 100 when two of them are.
    assert alarms([1.0] * 30 + [100.0] * 2) == [(32, "the loss rose to 100 from 1")]
    assert alarms([1.0, 100.0, 100.0]) == [(3, "the loss rose to 100 from 1")]
    assert alarms([1.0, 100.0, 100.0], rise=None) == []


def test_a_slow_rise_is_measured_from_the_lowest():
    # 2 % a step: 4 times the first window's median, at step 3 of it, needs ln 4 / ln 1.02 = 70 steps.
    losses = [1.02**step for step in range(200)]
    first = alarms(losses)[0][0]
    assert 70 <= first <= 76


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_no_number_is_an_alarm_at_once(loss):
    assert [step for step, _ in alarms([1.0, loss], rise=None)] == [2]


def test_collapse_is_half_of_the_best():
    assert collapsed(0.16, 0.33, 0.5) == "mAP fell to 0.1600 from 0.3300"
    assert collapsed(0.17, 0.33, 0.5) is None
    assert collapsed(0.0, None, 0.5) is None and collapsed(0.0, 0.3, None) is None


def test_states_to_go_back_to():
    def state(step):
        return GoodState(step, {}, {}, {})

    good = GoodStates()
    good.add(state(0), evaluated=True)
    good.add(state(25), evaluated=False)
    assert good.go_back(False).step == 0  # 25 is not known to be good
    good.add(state(25), evaluated=False)
    good.add(state(50), evaluated=False)
    assert good.go_back(False).step == 25
    assert good.go_back(False).step == 0  # 25 was tried
    good.add(state(25), evaluated=False)
    good.add(state(50), evaluated=False)
    assert good.go_back(True).step == 0
    good.add(state(60), evaluated=True)
    assert good.go_back(False).step == 60


@pytest.mark.parametrize(("use_pact", "rate"), [(False, 1e30), (True, 30.0)])
def test_an_absurd_rate_ends_with_the_calibrated_start(small_model, tmp_path, caplog, use_pact, rate):
    recorder = Recorder([0.3] + [0.0] * 9)
    wanted = settings(30, {"use_pact": use_pact}, learning_rate=rate)
    result = run(small_model, tmp_path, wanted, evaluate=recorder)
    assert (result.metrics["mAP"], result.metrics["best_step"], result.metrics["gave_up"]) == (0.3, 0, True)
    assert [back["to"] for back in result.metrics["rollbacks"]] == [0, 0, 0]
    warnings = [line for line in caplog.text.splitlines() if "diverged" in line]
    assert len(warnings) == 4
    assert f"back to step 0, learning rate x 0.3 = {0.3 * rate:g} (try 1 of 3)" in warnings[0]
    assert "given up after 3 tries" in warnings[3]
    got = predictions(tmp_path / "model", next(batches(100)))
    for value, expected in zip(got, recorder.seen[0]):
        np.testing.assert_allclose(
            value, expected, rtol=1e-6
        )  # evaluated in ONNX Runtime, whose sigmoid is another


def test_without_evaluation_the_last_good_state_is_kept(small_model, tmp_path):
    result = run(small_model, tmp_path / "diverged", settings(30, learning_rate=1e30))
    assert (result.metrics["steps"], result.metrics["gave_up"]) == (0, True)
    got = predictions(tmp_path / "diverged/model", next(batches(100)))
    start = Recorder([0.1, 0.1, 0.1])
    run(small_model, tmp_path / "start", settings(1), evaluate=start)
    for value, expected in zip(got, start.seen[0]):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_without_calibrated_start_it_is_an_error(small_model, tmp_path):
    wanted = replace(settings(30, learning_rate=1e30), calibration_batches=0)
    message = r"at step \d+ with learning rate 2.7e\+28, and there is no calibrated start.*TrainConfig"
    with pytest.raises(UserError, match=message):
        run(small_model, tmp_path, wanted)


def collapsing(values):
    """An evaluation whose values depend on how often it was asked, also in an earlier process."""

    def evaluate(predict):
        outputs = predict(next(batches(100)))
        assert all(np.isfinite(value).all() for value in outputs)
        return Score(values.pop(0))

    return evaluate


def rows(folder):
    with open(folder / "model" / "qat.csv") as stream:
        return list(csv.DictReader(stream))


def test_a_collapsed_map_goes_back_with_a_lower_rate(small_model, tmp_path):
    # Evaluations of the steps 0, 2, 4 (collapsed: back to 2), 4 again, 6; then with every tensor in INT8.
    values = [0.3, 0.31, 0.1, 0.32, 0.33, 0.33]
    result = run(small_model, tmp_path, settings(6, learning_rate=1e-4), evaluate=collapsing(values))
    assert result.metrics["evaluations"] == [[0, 0.3], [2, 0.31], [4, 0.32], [6, 0.33]]
    assert result.metrics["rollbacks"] == [{"step": 4, "to": 2, "why": "mAP fell to 0.1000 from 0.3100"}]
    assert "gave_up" not in result.metrics
    table = rows(tmp_path)
    assert [row["step"] for row in table] == ["1", "2", "3", "4", "5", "6"]
    np.testing.assert_allclose([float(row["lr"]) for row in table], [1e-4] * 2 + [3e-5] * 4)


def test_a_run_killed_after_going_back_ends_as_an_undisturbed_one(small_model, tmp_path):
    rate = {"type": "CosineAnnealingDecay", "learning_rate": 1e-2, "T_max": 6}
    wanted = settings(6, {"use_pact": True}, learning_rate=rate)
    values = [0.3, 0.31, 0.1, 0.32, 0.33, 0.33]
    whole = run(small_model, tmp_path / "whole", wanted, evaluate=collapsing(list(values)))
    asked = []

    def killed(start):
        asked.append(start)
        for number, feed in enumerate(batches(start)):
            if len(asked) == 3 and number == 1:  # calibration, the first way, the way after going back
                raise KeyboardInterrupt
            yield feed

    folder, rest = tmp_path / "killed", list(values)
    with pytest.raises(KeyboardInterrupt):
        quantize(
            small_model,
            folder / "model",
            folder / "work",
            killed,
            wanted,
            config=CONFIG,
            evaluate=collapsing(rest),
        )
    assert asked == [0, 0, 2] and rest == [0.32, 0.33, 0.33]
    resumed = run(small_model, folder, wanted, evaluate=collapsing(rest))
    for name in ("model.pdmodel", "model.pdiparams", "qat.csv"):
        assert (folder / "model" / name).read_bytes() == (tmp_path / "whole/model" / name).read_bytes()
    for key in ("rollbacks", "evaluations", "best_step"):
        assert resumed.metrics[key] == whole.metrics[key]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guard_rise": 1}, "Quantize.guard_rise: expected a number above 1, found 1"),
        ({"guard_collapse": 1.5}, "guard_collapse: expected a number between 0 and 1, found 1.5"),
        ({"guard_rate_factor": "x"}, "guard_rate_factor: expected a number"),
        ({"guard_tries": -1}, "guard_tries: expected a whole number"),
        ({"patience": 0}, "patience: expected a whole number from 1 or null"),
    ],
)
def test_keys_that_cannot_be_honoured(values, message):
    with pytest.raises(ConfigError, match=message):
        QuantizationSettings(**values)


def test_linear_rule_scales_the_rate(small_model, tmp_path, caplog):
    caplog.set_level("INFO", logger="picoquant")
    wanted = replace(
        settings(1, learning_rate=1e-4), quantization=QuantizationSettings(reference_batch=8), batch_size=2
    )
    run(small_model, tmp_path, wanted)
    assert "learning rate x 0.25 = 2 / 8, 2 images a step (1 x 2)" in caplog.text
    assert float(rows(tmp_path)[0]["lr"]) == pytest.approx(2.5e-5)
