"""Weights held at 0 while a network is trained: the same weights as with PaddleSlim's pruner, step by step."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.errors import ConfigError
from picoquant.pruning.settings import UnstructuredPrunerSettings
from picoquant.pruning.sparsifier import Sparsifier, prunable
from picoquant.training.settings import EmaSettings
from picoquant.training.state import TrainState
from tests.training import tiny


def network():
    paddle.seed(5)
    return nn.Sequential(
        nn.Conv2D(3, 8, 1), nn.BatchNorm2D(8), nn.ReLU(), nn.Conv2D(8, 8, 3, groups=8), nn.Conv2D(8, 4, 1)
    )


def trained(model, after_update, updates):
    """The weights after each update, as the next forward reads them."""
    paddle.seed(6)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters(), weight_decay=0.01)
    seen = []
    for _ in range(updates):
        loss = (model(paddle.randn([2, 3, 5, 5])) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        after_update()
        with paddle.no_grad():
            model(paddle.zeros([1, 3, 5, 5]))  # PaddleSlim masks in front of a forward
        seen.append({name: value.numpy() for name, value in model.named_parameters()})
    return seen


SETTINGS = {"ratio": 0.7, "initial_ratio": 0.2, "stable_epochs": 1, "pruning_epochs": 6, "pruning_steps": 5}


@pytest.mark.parametrize("kind", [None, "conv1x1_only"])
@pytest.mark.parametrize("local", [True, False])
def test_the_ramp_as_paddleslim(kind, local):
    pytest.importorskip("paddleslim", reason="PaddleSlim, which is compared with, is for Paddle 2.6")
    from paddleslim import GMPUnstructuredPruner

    theirs, ours = network(), network()
    slim = GMPUnstructuredPruner(
        theirs,
        ratio=0.7,
        prune_params_type=kind,
        local_sparsity=local,
        configs={
            "stable_iterations": 10, "pruning_iterations": 60, "tunning_iterations": 10, "resume_iteration": 0,
            "pruning_steps": 5, "initial_ratio": 0.2,
        },
    )  # fmt: skip
    settings = UnstructuredPrunerSettings(**SETTINGS, prune_params_type=kind, local_sparsity=local)
    mine = Sparsifier(ours, settings, epochs=8, updates_per_epoch=10)
    expected = trained(theirs, slim.step, 80)
    for step, found in enumerate(trained(ours, mine.after_update, 80)):
        for name, value in found.items():
            assert np.array_equal(value, expected[step][name]), (step, name)
    assert mine.settled
    zeros = {one.name: one.zeros for one in mine.layers(found)}
    if local:
        # Of 24 and 32 weights round(0.7 * n) - 1 are 0: 17 - 1, 22 - 1; of the 3x3 layer's 72: 50 - 1.
        assert zeros == ({"0.weight": 16, "4.weight": 21} | ({} if kind else {"3.weight": 49}))
    else:
        assert sum(zeros.values()) == round(0.7 * (56 if kind else 128)) - 1


@pytest.mark.parametrize("mode", ["ratio", "threshold"])
def test_without_a_ramp_as_paddleslim(mode):
    pytest.importorskip("paddleslim", reason="PaddleSlim, which is compared with, is for Paddle 2.6")
    from paddleslim import UnstructuredPruner

    theirs, ours = network(), network()
    slim = UnstructuredPruner(theirs, mode, threshold=0.2, ratio=0.6, local_sparsity=False)
    settings = UnstructuredPrunerSettings(mode=mode, threshold=0.2, ratio=0.6, local_sparsity=False)
    mine = Sparsifier(ours, settings, epochs=1, updates_per_epoch=10)
    assert not mine.settled
    expected = trained(theirs, slim.step, 10)
    for step, found in enumerate(trained(ours, mine.after_update, 10)):
        for name, value in found.items():
            assert np.array_equal(value, expected[step][name]), (step, name)
    assert mine.settled


def test_layers_that_are_left_out():
    model = network()
    named = UnstructuredPrunerSettings(skip_params=["0"])
    assert list(prunable(model, named)) == ["3.weight", "4.weight"]
    with pytest.raises(ConfigError, match="no layer is left to be pruned"):
        prunable(model, UnstructuredPrunerSettings(skip_params=["*"]))
    with pytest.raises(ConfigError, match="UnstructuredPruner.skip_params: the network has no weights 'hed'"):
        prunable(model, UnstructuredPrunerSettings(skip_params=["hed"]))


def test_an_average_of_weights_gets_their_zeros():
    model = network()
    mine = Sparsifier(model, UnstructuredPrunerSettings(mode="ratio", ratio=0.5), 1, 4)
    mine.after_update()
    averaged = {name: np.ones(value.shape, np.float32) for name, value in model.state_dict().items()}
    found = mine.masked(averaged)
    assert np.array_equal(found["0.weight"], (model[0].weight.numpy() != 0).astype(np.float32))
    assert found["0.weight"].sum() == 24 - (12 - 1)
    assert found["0.bias"].all()


def test_a_checkpoint_holds_the_masks():
    def state():
        model = network()
        masks = Sparsifier(model, UnstructuredPrunerSettings(**SETTINGS), 8, 10)
        return TrainState(model, tiny.settings(ema=EmaSettings()), 10, masks)

    first = state()
    trained(first.model, first.masks.after_update, 35)
    checkpoint = first.checkpoint()
    again = state()
    assert again.restore(checkpoint)
    for one in (first, again):
        one.masks.after_update()
    for (name, value), (_, other) in zip(first.model.named_parameters(), again.model.named_parameters()):
        assert np.array_equal(value.numpy(), other.numpy()), name
    assert first.masks.state()["@updates"] == again.masks.state()["@updates"] == 36
    # Other settings are another training; so is one without masks.
    assert not TrainState(network(), tiny.settings(ema=EmaSettings()), 10).restore(checkpoint)
