"""The order of a search's trials for given results, and what its time allows."""

from __future__ import annotations

import time

import pytest

from picoquant.commands.search.clock import Clock, TimeUpError
from picoquant.commands.search.course import (
    BIASES,
    COPIES,
    METHOD,
    RANGES,
    RATE,
    ROUNDING,
    WEIGHTS,
    course,
    space_of,
)
from picoquant.stages.plan import load_plan


def space(*sets: str):
    return space_of(load_plan("picodet_s_qat_dis", sets))


def order(of, worth) -> list[dict]:
    """What is changed of the recipe in each trial, where `worth(values)` answers."""
    steps, found = course(of), []
    values = next(steps)
    while True:
        found.append({key: value for key, value in values.items() if value != of.own[key]})
        try:
            values = steps.send(worth(values))
        except StopIteration:
            return found


def test_where_nothing_gains_each_value_is_tried_once_then_training_with_each_rate():
    changed = order(space(), lambda values: 0.5)
    ptq, qat = [one for one in changed if METHOD in one], [one for one in changed if METHOD not in one]
    assert changed == ptq + qat  # the cheap ones first
    assert [{key: value for key, value in one.items() if key != METHOD} for one in ptq] == [
        {}, *({RANGES: ranges} for ranges in ("mse", "percentile", "kl", "histogram", "min_max")), {BIASES: False},
        {COPIES: 8}, {COPIES: 1}, {ROUNDING: "reconstructed"}, {WEIGHTS: "abs_max"},
    ]  # fmt: skip
    assert qat == [{}, {RATE: 0.0025}, {RATE: 0.01}]


def test_one_key_at_a_time_is_changed_from_the_best_so_far_until_a_round_gains_nothing():
    gains = {RANGES: {"mse": 0.1, "kl": 0.2}, BIASES: {False: 0.1}}

    def worth(values):
        # min_max gains only without bias correction, so it takes a second round to find it.
        late = 0.3 if values[RANGES] == "min_max" and not values[BIASES] else 0.0
        trained = 0.01 if values[METHOD] == "qat" else 0.0
        return late + trained + sum(gains.get(key, {}).get(value, 0.0) for key, value in values.items())

    changed = order(space(), worth)
    ptq = [{key: value for key, value in one.items() if key != METHOD} for one in changed if METHOD in one]
    assert ptq[1:7] == [
        {RANGES: "mse"}, {RANGES: "percentile"}, {RANGES: "kl"}, {RANGES: "histogram"}, {RANGES: "min_max"},
        {RANGES: "kl", BIASES: False},
    ]  # fmt: skip
    best = {RANGES: "min_max", BIASES: False}
    assert best in ptq and {**best, COPIES: 1} in ptq
    trained = [one for one in changed if METHOD not in one]
    assert trained == [{}, best, {**best, RATE: 0.0025}, {**best, RATE: 0.01}]
    assert len({str(sorted(one.items(), key=str)) for one in changed}) == len(changed)  # nothing twice


def test_what_has_no_result_is_passed_over():
    without = order(space(), lambda values: None if values[RANGES] == "detections" else 0.5)
    assert without[1] == {METHOD: "ptq", RANGES: "mse"} and without[2] == {
        METHOD: "ptq",
        RANGES: "percentile",
    }
    assert {METHOD: "ptq", RANGES: "mse", BIASES: False} in without  # goes on from the first with a result


def test_what_makes_no_difference_or_is_not_the_targets_is_not_tried(tmp_path):
    assert COPIES not in space("Quantize.cross_layer_equalisation=false").ptq
    assert WEIGHTS not in space("QuantAware.weight_quantize_type=channel_wise_abs_max").ptq
    assert space("Quantize.training=configured", "QuantAware.use_pact=false").qat == {}
    profile = tmp_path / "mine.yaml"
    text = load_text("rv1126").replace("weights: per_channel", "weights: per_tensor")
    profile.write_text(text)
    assert WEIGHTS not in space(f"Package.target=[rv1126,{profile}]").ptq
    assert space("Quantize.channel_copies=2").ptq[COPIES] == (2, 4, 8, 1)


def load_text(name: str) -> str:
    from picoquant.yaml_files.locate import shipped

    return shipped("npu_targets", name).read_text()


def test_a_recipe_without_training_is_trained_with_the_best_settings_only():
    changed = order(
        space("Quantize.method=ptq"), lambda values: 0.6 if values[ROUNDING] == "reconstructed" else 0.5
    )
    assert changed[0] == {}
    trained = [one for one in changed if METHOD in one]
    assert trained[0] == {METHOD: "qat", ROUNDING: "reconstructed"} and len(trained) == 3


def test_a_trial_is_begun_that_ends_a_tenth_late_at_most():
    clock = Clock(100)
    assert clock.fits(105) and not clock.fits(111)
    assert not Clock(0).fits(0)


def test_a_trial_that_takes_longer_is_stopped_and_what_the_user_stops_is_not():
    with pytest.raises(TimeUpError), Clock(0.05).limit():
        time.sleep(20)
    with pytest.raises(KeyboardInterrupt), Clock(20).limit():
        raise KeyboardInterrupt
    with Clock(20).limit():
        pass
