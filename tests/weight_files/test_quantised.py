"""Weights of quantisation-aware training in dygraph, wrapped and saved by the tools that users have."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle.quantization import QAT, QuantConfig
from paddle.quantization.quanters import FakeQuanterWithAbsMaxObserver

from picoquant.config.detector import load_detector
from picoquant.detector.weights import load_weights
from picoquant.stages.model import load_start
from picoquant.utils.paddle_version.differences import paddle_3
from picoquant.weight_files.quantised import float_weights
from tests.detector.conftest import SMALL


def network(seed):
    paddle.seed(seed)
    return load_detector(SMALL)


def wrapped_by_paddleslim(model, preprocess=None):
    from paddleslim.dygraph import quant

    config = {"activation_preprocess_type": preprocess, "quantizable_layer_type": ["Conv2D", "Linear"]}
    quant.QAT(config=config).quantize(model)
    return model


def wrapped_by_paddle(model):
    quanter = FakeQuanterWithAbsMaxObserver(moving_rate=0.9)
    return QAT(QuantConfig(activation=quanter, weight=quanter)).quantize(model)


PADDLESLIM = pytest.mark.skipif(paddle_3(), reason="PaddleSlim 2.6.0 is for Paddle 2")
WRAP = {
    "paddleslim": wrapped_by_paddleslim,
    "paddleslim with PACT": lambda model: wrapped_by_paddleslim(model, "PACT"),
    "paddle.quantization": wrapped_by_paddle,
}


@pytest.mark.parametrize(
    ("tool", "load"),
    [
        *(pytest.param(tool, load_weights, marks=PADDLESLIM if "slim" in tool else ()) for tool in WRAP),
        pytest.param("paddleslim", load_start, marks=PADDLESLIM),
    ],
)
def test_the_float_weights_are_loaded_and_a_line_says_so(tool, load, tmp_path, caplog):
    trained, other = network(1), network(2)
    expected = {name: value.numpy().copy() for name, value in trained.state_dict().items()}
    file = tmp_path / "model_quant.pdparams"
    paddle.save(WRAP[tool](trained).state_dict(), str(file))
    load(other, file)
    found = other.state_dict()
    assert set(found) == set(expected)
    assert all(np.array_equal(found[name].numpy(), value) for name, value in expected.items())
    (line,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "saved by quantisation-aware training: its float weights are loaded" in line


def test_a_float_network_is_left_as_it_is():
    state = {"backbone.a_layer.weight": np.ones(2, np.float32), "_layer.bias": np.ones(1, np.float32)}
    assert float_weights(state) == (state, 0)
