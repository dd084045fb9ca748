"""The part of zeros over a training: by hand, and as PaddleSlim's pruner counts it."""

from __future__ import annotations

import pytest

from picoquant.errors import ConfigError
from picoquant.pruning.ramp import make_ramp
from picoquant.pruning.settings import UnstructuredPrunerSettings


def ramp(updates=10, epochs=9, **changes):
    values = {
        "ratio": 0.8, "initial_ratio": 0.2, "stable_epochs": 1, "pruning_epochs": 4, "tunning_epochs": 2,
        "pruning_steps": 4,
    }  # fmt: skip
    return make_ramp(UnstructuredPrunerSettings(**{**values, **changes}), epochs, updates)


def test_by_hand():
    """40 updates in 4 steps of 10: 1 - (1 - i / 4)^3 of the way from 0.2 to 0.8, behind 10 updates without zeros."""
    found = ramp()
    assert found.period == 10
    parts = [found.part(update) for update in range(0, 90, 10)]
    assert parts == pytest.approx(
        [0, 0.2, 0.2 + 0.6 * 37 / 64, 0.2 + 0.6 * 7 / 8, 0.2 + 0.6 * 63 / 64, *[0.8] * 4]
    )
    assert [found.part(update) for update in (9, 19, 49, 50)] == pytest.approx([0, 0.2, parts[4], 0.8])
    assert found.settled == 51  # the 51st update is the first with the whole part


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"pruning_steps": 41},
            "pruning_steps: 41 steps in pruning_epochs: 4, which are 40 updates .* at most 40",
        ),
        ({"epochs": 5}, "takes 5 epochs, and epoch is 5: .* not reach ratio 0.8; set epoch to 6 or more"),
    ],
)
def test_a_training_that_is_too_short(changes, error):
    with pytest.raises(ConfigError, match=error):
        ramp(**changes)


def test_longer_than_needed_and_other_modes():
    assert ramp(epochs=6).settled == 51
    assert ramp(mode="ratio", epochs=1).part(0) == 0.8


@pytest.mark.parametrize(
    "changes", [{}, {"stable_epochs": 0, "initial_ratio": 0.8}, {"stable_epochs": 3, "epochs": 20}]
)
def test_as_paddleslim(changes, monkeypatch):
    pytest.importorskip("paddleslim", reason="PaddleSlim, which is compared with, is for Paddle 2.6")
    from paddleslim.dygraph.prune.unstructured_pruner import GMPUnstructuredPruner

    settings = {"stable_epochs": 1, "pruning_epochs": 4, "tunning_epochs": 2, "initial_ratio": 0.2, **changes}
    slim = GMPUnstructuredPruner.__new__(GMPUnstructuredPruner)
    slim.stable_iterations = settings["stable_epochs"] * 11
    slim.pruning_iterations, slim.tunning_iterations = 4 * 11, 2 * 11
    slim.pruning_steps, slim.initial_ratio, slim.target_ratio = 3, settings["initial_ratio"], 0.8
    slim.ratio, slim.cur_iteration, slim._need_prune_once = 0.0, 0, False
    slim._prepare_training_hyper_parameters()
    monkeypatch.setattr(slim, "update_threshold", lambda: None)
    monkeypatch.setattr(slim, "_update_masks", lambda: None)
    found = ramp(updates=11, pruning_steps=3, **changes)
    for update in range(90):
        slim.step()
        assert found.part(update) == slim.ratio, update
