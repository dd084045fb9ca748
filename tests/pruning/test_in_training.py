"""The training loop with weights held at 0: what counts as the best, and an interruption; where pruning starts."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.detector.weights import read_weights
from picoquant.errors import ConfigError
from picoquant.pruning.in_training import Pruned
from picoquant.pruning.settings import PrunerSettings, UnstructuredPrunerSettings
from picoquant.pruning.sparsifier import Sparsifier
from picoquant.weight_files.files import write_weights
from tests.training import tiny
from tests.training.test_loop import same_end

SCORES = {0: 0.9, 1: 0.1, 2: 0.2}  # of a dense network, then of the sparse one
SETTINGS = UnstructuredPrunerSettings(
    ratio=0.5, pruning_epochs=1, pruning_steps=1, prune_params_type="conv1x1_only"
)


def masks(model):
    """The ramp ends with the first update of the second of three epochs."""
    return Sparsifier(model, SETTINGS, 3, tiny.STEPS_PER_EPOCH)


def scored(epoch):
    return {"mAP": SCORES[epoch]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparse")
    return folder, tiny.run(folder, scored=scored, masks=masks)


def test_only_what_has_its_zeros_counts_as_the_best(undisturbed):
    """With an average of the weights (`ema`), whose zeros are the network's, too."""
    folder, result = undisturbed
    assert (result.best_epoch, result.metrics["mAP"]) == (3, 0.2)
    weights = read_weights(folder / "work/best.pdparams")
    pointwise = [value for value in weights.values() if value.ndim == 4 and value.shape[2:] == (1, 1)]
    assert len(pointwise) > 60
    for value in pointwise:
        assert (value == 0).sum() == max(0, round(0.5 * value.size) - 1)


def test_an_interrupted_training_ends_the_same(undisturbed, tmp_path):
    def fails(epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        return scored(epoch)

    with pytest.raises(KeyboardInterrupt):
        tiny.run(tmp_path, scored=fails, masks=masks)
    result = tiny.run(tmp_path, scored=scored, masks=masks)
    assert same_end(undisturbed[0], tmp_path)
    assert result.best_epoch == 3


@pytest.mark.parametrize(("filters", "weights"), [(PrunerSettings(), None), (None, SETTINGS)])
def test_pruning_needs_trained_weights(filters, weights, tmp_path):
    section = "Pruner" if filters else "UnstructuredPruner"
    write_weights({"backbone.conv.weight": np.ones((1, 1), np.float32)}, tmp_path / "backbone.pdparams")
    for start, error in (
        (
            None,
            "pruning needs trained weights, and pretrain_weights is null; name a file of the whole detector",
        ),
        (
            tmp_path / "backbone.pdparams",
            "needs the whole detector's trained weights, .* are a backbone's alone",
        ),
    ):
        pruned = Pruned(filters, weights)
        with pytest.raises(ConfigError, match=f"^{section}: .*{error}"):
            if filters:
                pruned.remove_filters(None, None, (64, 64), start)
            else:
                pruned.masks(None, 3, 3, start)
