"""Ranges and statistics that stay as they are in the last part of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.paddle_program.graph import Graph, Operator, Tensor
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.qat.freeze import freeze_step
from picoquant.quantization.settings import QuantizationSettings
from picoquant.storage.checkpoints import Checkpoints
from tests.networks.small_net import settings
from tests.quantization.test_quantize import run

STORED = {"scale": 1, "bias": 0, "mean": 0, "variance": 1}  # of a batch-norm


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
    slots = {"X0": "x", "Scale0": "scale", "Bias0": "bias", "Mean0": "mean", "Variance0": "variance"}
    attributes = {"momentum": 0.9, "epsilon": 1e-5, "use_global_stats": False}
    norm = Operator("y", "batch_norm", tuple(slots.items()), (("Y0", "y"),), attributes)
    tensors = {name: Tensor(name, (1,), "float32", name != "x") for name in slots.values()}
    stored = {name: np.float32([value]) for name, value in STORED.items()}
    network = FakeQuantNetwork(Graph((norm,), tensors, ("x",), ("y",)), stored, (), {})
    assert sorted(one.name for one in network.trained()) == ["bias", "scale"]
    feed = {"x": paddle.to_tensor(np.float32([1.0, 3.0]).reshape(2, 1, 1, 1))}
    (found,) = network(feed, ("y",), following=True)
    np.testing.assert_allclose(found.numpy().ravel(), [-1, 1], rtol=1e-4)
    # The mean of the batch is 2, its weight in the running one 0.1.
    assert network.stored["mean"].item() == pytest.approx(0.2)
    assert network.statistics() == [network.stored["mean"], network.stored["variance"]]
    network.stored["variance"].set_value(np.float32([4.0]))
    (found,) = network(feed, ("y",), following=False)
    assert network.stored["mean"].item() == pytest.approx(0.2)
    np.testing.assert_allclose(found.numpy().ravel(), [0.4, 1.4], rtol=1e-4)  # (1 - 0.2) / 2, (3 - 0.2) / 2
    found.mean().backward()
    assert network.stored["scale"].grad.item() == pytest.approx(0.9, rel=1e-4)  # the normalised values' mean


def test_steps_that_are_frozen():
    assert [freeze_step(10, part) for part in (0.0, 0.2, 0.5)] == [10, 8, 5]
