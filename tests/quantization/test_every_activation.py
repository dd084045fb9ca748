"""Every function of `int8/functions.py` from float to INT8: calibration, Paddle's INT8, the simulation, ONNX."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any, Callable

import numpy as np
import onnx
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from picoquant.backends.onnx.parity import run_onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.export.paddle_export import write_layer
from picoquant.int8.functions import FUNCTIONS
from picoquant.int8.paddle.reader import read_network
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.paddle_program.edit import batch_of_one
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params
from picoquant.quantization.quantize import quantize
from picoquant.quantization.settings import QuantizationSettings
from picoquant.targets.profiles import load_target
from tests.networks.small_net import CONFIG, SIZE, batches, settings

LAYERS: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "sigmoid": F.sigmoid,
    "tanh": paddle.tanh,
    "hard_sigmoid": F.hardsigmoid,
    "hard_swish": F.hardswish,
    "swish": F.swish,
    "silu": F.silu,
    "clip": functools.partial(paddle.clip, min=-0.5, max=2.0),
}


class Branches(nn.Layer):
    """A stem, and for each activation a convolution before and one behind it.

    Input `[N, 3, 32, 32]`; an output `[N, 4, 16, 16]` for each of `LAYERS`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, 8, 3, 2, 1)
        self.before = nn.LayerList([nn.Conv2D(8, 8, 1) for _ in LAYERS])
        self.behind = nn.LayerList([nn.Conv2D(8, 4, 1) for _ in LAYERS])
        generator = np.random.RandomState(4)
        for value in self.parameters():
            spread = 1.0 / np.sqrt(np.prod(value.shape[1:]) if value.ndim > 1 else 4)
            value.set_value((3 * spread * generator.randn(*value.shape)).astype("float32"))

    def forward(self, image):
        stem = self.stem(image)
        rows = zip(self.before, LAYERS.values(), self.behind)
        return [behind(function(before(stem))) for before, function, behind in rows]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Outputs of one image: `float`, `int8` (Paddle), `simulation`, `onnx`; and the operators of the program."""
    folder = tmp_path_factory.mktemp("activations")
    network = Branches()
    network.eval()
    spec = [paddle.static.InputSpec([-1, 3, SIZE, SIZE], "float32", "image")]
    write_layer(network, spec, folder / "float")
    # Not equalised: that would write the hard-swish out.
    own = QuantizationSettings(method="ptq", ranges="mse", cross_layer_equalisation=False)
    wanted = replace(settings(), quantization=own)
    quantize(folder / "float", folder / "int8", folder / "work", batches, wanted, config=CONFIG)
    models = {name: ModelFolder.open(folder / name, config=CONFIG) for name in ("float", "int8")}
    feed = {"image": next(batches(100))["image"][:1]}
    found = {name: open_predictor(model, threads=1)(feed) for name, model in models.items()}
    found["simulation"] = NpuSimulation(models["int8"], load_target("rv1126").integer_rules)(feed)
    program = batch_of_one(models["int8"].model, (SIZE, SIZE))
    int8 = read_network(program, read_params(program, models["int8"].params), models["int8"].model)
    onnx.save(make_onnx(int8), folder / "int8.onnx")
    found["onnx"] = run_onnx(folder / "int8.onnx", feed)
    return found, {op.op_type for op in int8.graph.operators}


def decibel(found, wanted):
    return 10 * np.log10((wanted**2).sum() / max(((found - wanted) ** 2).sum(), 1e-30))


def test_each_function_has_a_network(outputs):
    assert set(LAYERS) == set(FUNCTIONS) <= outputs[1]


@pytest.mark.parametrize("name", LAYERS)
def test_int8_is_near_float_and_the_same_everywhere(outputs, name):
    """A wrong formula or a wrong default is below 30 dB; a value that is rounded the other way now and then is not."""
    result = {kind: values[list(LAYERS).index(name)] for kind, values in outputs[0].items()}
    assert decibel(result["int8"], result["float"]) > 25
    assert decibel(result["simulation"], result["int8"]) > 45
    assert decibel(result["onnx"], result["int8"]) > 45
