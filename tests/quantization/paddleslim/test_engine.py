"""`Quantize.engine: paddleslim`: AutoCompression itself through the same quantisation, and what it cannot do."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import ConfigError, ToolError
from picoquant.int8.files import open_network
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.paddleslim import require
from picoquant.quantization.paddleslim.require import require_paddleslim, require_settings, say_unused
from picoquant.quantization.quantize import quantize
from picoquant.quantization.score import Score
from picoquant.quantization.settings import QuantizationSettings
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks.small_net import CONFIG, batches, settings

PADDLESLIM = QuantizationSettings(engine="paddleslim")
FEED = {"image": next(batches(100))["image"]}


def likeness(model):
    """In place of a mAP: how little of the float outputs INT8 has lost."""
    exact = np.concatenate([one.ravel() for one in open_predictor(model)(FEED)])

    def evaluate(predict):
        found = np.concatenate([np.asarray(one).ravel() for one in predict(FEED)])
        return Score(float(1 - np.square(found - exact).mean() / exact.var()))

    return evaluate


@pytest.mark.skipif(paddle_3(), reason="PaddleSlim 2.6.0 is for Paddle 2")
def test_its_model_and_its_log(small_model, tmp_path, opt):
    pytest.importorskip("paddleslim")
    wanted = replace(settings(4, learning_rate=1e-3, eval_iter=2), quantization=PADDLESLIM)
    evaluate = likeness(ModelFolder.open(small_model, config=CONFIG))
    out = tmp_path / "int8"
    found = quantize(small_model, out, tmp_path / "work", batches, wanted, evaluate, config=CONFIG)
    assert found.metrics["steps"] == 4 and found.metrics["quantized_operators"] == 5
    assert [step for step, _ in found.metrics["evaluations"]] == [2, 4]
    assert found.metrics["mAP"] == max(value for _, value in found.metrics["evaluations"])
    with open(out / "qat.csv", newline="") as stream:
        losses = [float(row["loss"]) for row in csv.DictReader(stream)]
    assert len(losses) == 4 and all(np.isfinite(losses))
    folder = ModelFolder.open(out)
    network = open_network(folder)
    assert len([op for op in network.operators if op.weight]) == 5
    # The INT8 model computes what was evaluated while it was a graph with rounding in it.
    assert evaluate(open_predictor(folder)).mAP == pytest.approx(found.metrics["mAP"], abs=0.01)
    described = json.loads((out / "quantization.json").read_text())
    assert described["engine"] == "paddleslim" and len(described["operators"]) == 5
    assert "full_check" in described


def test_what_it_has_nothing_for_is_refused():
    for changes, key in (
        ({"method": "ptq"}, "Quantize.method is ptq"),
        ({"keep_float": ("conv2d_1",)}, r"Quantize.keep_float is \['conv2d_1'\]"),
        ({"max_drop": 0.01}, "Quantize.max_drop is 0.01"),
    ):
        with pytest.raises(ConfigError, match=key + ", and Quantize.engine: paddleslim"):
            require_settings(replace(PADDLESLIM, **changes), QuantAwareSettings())
    with pytest.raises(ConfigError, match="QuantAware.onnx_format is true, .* or it to false"):
        require_settings(PADDLESLIM, QuantAwareSettings(onnx_format=True))
    require_settings(replace(PADDLESLIM, training="levels"), QuantAwareSettings(symmetric_activations=True))


def test_what_it_does_not_read_is_said(caplog):
    say_unused(PADDLESLIM)
    assert not caplog.records
    say_unused(replace(PADDLESLIM, patience=3, ranges="mse"))
    assert "Quantize.patience, Quantize.ranges: not used" in caplog.text


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        ({"paddlepaddle": "3.3.1"}, "cannot run on PaddlePaddle 3.3.1: PaddleSlim 2.6.0"),
        ({"paddlepaddle-gpu": "3.3.1", "paddleslim": "2.6.0"}, "cannot run on PaddlePaddle 3.3.1"),
        ({"paddlepaddle": "2.6.2"}, "which is not installed: pip install"),
        ({}, r"PaddlePaddle \(none is installed\)"),
    ],
)
def test_where_it_cannot_run(monkeypatch, installed, said):
    monkeypatch.setattr(require, "versions", lambda names: installed)
    with pytest.raises(ToolError, match=said) as raised:
        require_paddleslim()
    assert "\n" not in str(raised.value) and re.search("set Quantize.engine to picoquant", str(raised.value))
