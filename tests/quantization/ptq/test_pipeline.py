"""Which passes run, and in which order."""

from __future__ import annotations

import pytest

from picoquant.errors import UserError
from picoquant.quantization.ptq.pipeline import SCALES, preparation, run_passes, run_ptq
from picoquant.quantization.settings import QuantizationSettings
from tests.quantization.ptq.states import context_of, load_state

ALL = [
    "fold_batch_norm",
    "ignore_layers",
    "settle_dead_channels",
    "equalise",
    "place_quantisers",
    "observe",
    "weigh_errors",
    "choose_ranges",
    "settle_gates",
    "round_weights",
    "correct_biases",
]


def names(calibrated=True, **own):
    return [one.__name__ for one in preparation(QuantizationSettings(**own), calibrated)]


def test_all_passes_in_order():
    assert names(keep_float=("a",), rounding="reconstructed") == ALL
    assert [one.__name__ for one in SCALES] == ["unify_scales", "settle_gates", "avoid_ties"]


@pytest.mark.parametrize(
    ("own", "missing"),
    [
        # only a folded network is equalised, and only folding makes the large weights of dead channels
        ({"fold_batch_norm": False}, {"fold_batch_norm", "settle_dead_channels", "equalise"}),
        ({"cross_layer_equalisation": False}, {"equalise"}),
        ({"bias_correction": False}, {"correct_biases"}),
        ({"ranges": "mse"}, {"weigh_errors"}),
    ],
)
def test_what_the_settings_switch_off(own, missing):
    left = [name for name in ALL if name not in {*missing, "ignore_layers", "round_weights"}]
    assert names(**own) == left


def test_without_images_nothing_is_measured():
    assert names(calibrated=False, keep_float=("a",), rounding="reconstructed") == ALL[:2]


def test_passes_run_one_after_the_other(small_model, tmp_path):
    state = load_state(context_of(small_model, tmp_path))
    seen = []

    def note(name):
        def one(before):
            seen.append((name, before))
            return name

        return one

    assert run_passes((note("first"), note("second")), state) == "second"
    assert seen == [("first", state), ("second", "first")]


def test_ptq_needs_ranges(small_model, tmp_path):
    with pytest.raises(UserError, match="ptq needs calibration images, and none are used"):
        run_ptq(load_state(context_of(small_model, tmp_path)), 0.0)
