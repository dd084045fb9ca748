"""Exported models counted from their files, of either Paddle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from picoquant.cli.main import cli
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.summary.model_folder import summarise_folder
from tests.command_line import picoquant
from tests.networks.small_net import CONFIG

PADDLE_3 = Path(__file__).parents[1] / "paddle_program" / "pir" / "small"


@pytest.mark.parametrize("kind", ["json", "pdmodel"])
def test_counts(kind, small_model):
    model = PADDLE_3 if kind == "json" else small_model
    found = summarise_folder(ModelFolder.open(model, config=CONFIG))
    assert [name for name, _ in found.inputs] == ["image"] and not found.quantised
    assert {name: found.operators[name] for name in ("conv2d", "depthwise_conv2d", "batch_norm")} == {
        "conv2d": 4, "depthwise_conv2d": 1, "batch_norm": 3,
    }  # fmt: skip
    # Weights; batch-norms; biases of the heads.
    assert found.values == (8 * 27 + 8 * 9 + 12 * 8 + 2 * 12 + 4 * 12) + 4 * (8 + 8 + 12) + (2 + 4)
    # 16 x 16 cells behind the stem, 8 x 8 behind all others.
    assert found.macs == 256 * 8 * 27 + 64 * (8 * 9 + 12 * 8 + 2 * 12 + 4 * 12)


def test_the_command_takes_either(tmp_path):
    done = picoquant("info", "--model-dir", PADDLE_3, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["operators"]["conv2d"] == 4 and found["inputs"] == {"image": [-1, 3, 32, 32]}
    assert "4 conv2d" in CliRunner().invoke(cli, ["info", "--model-dir", str(PADDLE_3)]).output
    for arguments in ([], ["--model-dir", "a", "--config", "b"]):
        wrong = CliRunner().invoke(cli, ["info", *arguments])
        assert wrong.exit_code == 2 and "name a --config" in wrong.output
