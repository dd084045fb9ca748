"""Pruned networks through all stages, on generated images."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from picoquant.backends.paddle_lite.toolchain import find_opt
from picoquant.errors import ToolError
from picoquant.int8.files import open_network
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.weight_files.files import read_weights
from tests.command_line import SMALL, picoquant, with_sets

pytestmark = pytest.mark.slow

START = "pretrain_weights=quickstart.safetensors"
SPARSE = "{ratio: 0.75, initial_ratio: 0.3, pruning_epochs: 2, tunning_epochs: 1, pruning_steps: 2, "
SPARSE += "prune_params_type: conv1x1_only}"


def run(folder, *texts, command=("run", "--until", "quantize"), code=0):
    small = [one for one in SMALL if not one.startswith("pretrain_weights")]
    done = picoquant(
        *command, "-c", "quickstart", "--save-dir", folder, *with_sets([*small, START, *texts]), timeout=900
    )
    assert done.returncode == code, done.stderr
    return done.stderr


def test_sparse_weights_to_int8(tmp_path):
    texts = (f"UnstructuredPruner={SPARSE}", "epoch=4", "snapshot_epoch=1")
    said = run(tmp_path, *texts)
    assert said.count("before all zeros are there") == 2
    assert "prune: 74.9" in said
    weights = read_weights(tmp_path / "train/best.pdparams")
    with open(tmp_path / "train/sparsity.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        value = weights[row["layer"]]
        assert value.shape[2:] == (1, 1)
        zeros = int((value == 0).sum())
        assert int(row["zeros"]) == zeros
        # Values that equal the threshold stay; those of the shipped weights have 11 bits, and some are equal.
        assert max(0, round(0.75 * value.size) - 1) - value.size // 100 <= zeros < 0.75 * value.size
    assert (weights["backbone.conv1.conv.weight"] == 0).sum() == 0
    network = open_network(ModelFolder.open(tmp_path / "quantize"))
    parts = [
        (one.integers == 0).mean()
        for one in network.operators
        if one.op_type == "conv2d" and one.integers.shape[2:] == (1, 1)
    ]
    assert len(parts) > 30 and np.mean(parts) > 0.7
    try:
        find_opt()
    except ToolError:
        return
    said = run(tmp_path, *texts, "Package.target=arm_cpu", command=("package",))
    assert "1x1 convolutions become sparse ones: 0.6 or more of their weights are 0" in said


def test_filters_removed_up_to_int8(tmp_path):
    texts = (
        "Pruner={criterion: fpgm, pruned_params: all, pruned_ratios: 0.3}",
        "epoch=2",
        "snapshot_epoch=1",
    )
    said = run(tmp_path, *texts)
    assert "prune: fpgm: MACs " in said
    record = json.loads((tmp_path / "train/best.pruned.json").read_text())
    before, after = record["macs"]
    assert 0.4 < after / before < 0.7
    weights = read_weights(tmp_path / "train/best.pdparams")
    assert {name: list(value.shape) for name, value in weights.items()} == record["shapes"]
    done = picoquant(
        "eval", "-c", "quickstart", "--weights", tmp_path / "train/last.pdparams", "--save-dir", tmp_path / "other",
        *with_sets(SMALL[:4]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "of a pruned network" in done.stderr
    # Trained on, without pruning: the record goes along.
    said = run(tmp_path / "on", f"pretrain_weights={tmp_path / 'train/best.pdparams'}", command=("train",))
    assert json.loads((tmp_path / "on/train/best.pruned.json").read_text())["shapes"] == record["shapes"]
