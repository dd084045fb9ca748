"""What sections `UnstructuredPruner` and `Pruner` must not say, one line each."""

from __future__ import annotations

import pytest

from picoquant.errors import ConfigError
from picoquant.pruning.settings import PrunerSettings, UnstructuredPrunerSettings


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"ratio": 1.0}, "UnstructuredPruner.ratio: expected a part of at least 0 and below 1, found 1.0"),
        ({"ratio": 75}, "ratio: expected a part of at least 0 and below 1, found 75"),
        ({"ratio": "0.75"}, "ratio: expected a part of at least 0 and below 1, found '0.75'"),
        ({"initial_ratio": -0.1}, "initial_ratio: expected a part"),
        ({"initial_ratio": 0.6, "ratio": 0.5}, "initial_ratio: 0.6 is more than ratio, 0.5"),
        ({"mode": "gpm"}, "mode: 'gpm' is not supported .did you mean gmp"),
        ({"threshold": float("nan")}, "threshold: expected a number of 0 or more"),
        ({"pruning_epochs": 0}, "pruning_epochs: expected a whole number of 1 or more, found 0"),
        ({"pruning_steps": 2.5}, "pruning_steps: expected a whole number of 1 or more, found 2.5"),
        ({"stable_epochs": True}, "stable_epochs: expected a whole number of 0 or more, found True"),
        (
            {"prune_params_type": "conv3x3"},
            "prune_params_type: expected conv1x1_only or null, found 'conv3x3'",
        ),
        ({"local_sparsity": 1}, "local_sparsity: expected true or false, found 1"),
        ({"skip_params": [1]}, "skip_params: expected names of layers"),
    ],
)
def test_weights(values, error):
    with pytest.raises(ConfigError, match=error):
        UnstructuredPrunerSettings(**values)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"criterion": "l2_norm"}, "Pruner.criterion: 'l2_norm' is not supported.*; known: fpgm, l1_norm"),
        ({"pruned_ratios": [1]}, "Pruner.pruned_ratios: expected a part of at least 0 and below 1, found 1"),
        ({"pruned_ratios": "much"}, "pruned_ratios: expected a part .*, found 'much'"),
        (
            {"pruned_params": ["a", "b"], "pruned_ratios": [0.1, 0.2, 0.3]},
            "pruned_ratios: 3 numbers for 2 pruned_params; give one for each, or one for all",
        ),
        ({"pruned_params": []}, "pruned_params: expected all or names of weights"),
        ({"pruned_params": {"a": 0.3}}, "pruned_params: expected all or names of weights"),
        ({"print_params": "yes"}, "print_params: expected true or false"),
    ],
)
def test_filters(values, error):
    with pytest.raises(ConfigError, match=error):
        PrunerSettings(**values)


def test_one_ratio_is_that_of_all():
    found = PrunerSettings(
        pruned_params=["a", "b"], pruned_ratios="0.25"
    )  # PaddleDetection's files have texts
    assert found.pruned_ratios == (0.25, 0.25)
    assert PrunerSettings(pruned_params=["a", "b"], pruned_ratios=[0.25, "0.5"]).pruned_ratios == (0.25, 0.5)


def test_one_threshold_is_that_of_all_layers():
    assert UnstructuredPrunerSettings(mode="threshold").local_sparsity is False
