"""Paddle's inference runtime: quantised models with and without oneDNN, and compiled networks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from picoquant.evaluation import compiled_predictor, dygraph_predictor, open_predictor
from picoquant.export import InferConfig, ModelFolder
from picoquant.paddle_program.program import program_facts
from tests.networks.exported import make_detector

CONFIG = InferConfig((32, 32), ("a",))

# Quantises a small network; a process of its own, because it turns paddle to static mode.
_QUANTISE = """
import zlib, sys
import numpy as np
import paddle
from paddle import nn
from paddle.static.quantization import PostTrainingQuantization

folder, onnx_format = sys.argv[1], sys.argv[2] == "True"
paddle.seed(1)
def block(i, o, groups=1):
    return nn.Sequential(nn.Conv2D(i, o, 3, padding=1, groups=groups), nn.BatchNorm2D(o), nn.ReLU6())
net = nn.Sequential(block(3, 16), block(16, 16, 16), block(16, 8))
net.eval()
spec = paddle.static.InputSpec([None, 3, 32, 32], "float32", "image")
paddle.jit.save(paddle.jit.to_static(net, input_spec=[spec], full_graph=True), folder + "/float")
paddle.enable_static()
class Images(paddle.io.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return (np.random.RandomState(index).rand(3, 32, 32).astype("float32"),)
image = paddle.static.data("image", [None, 3, 32, 32], "float32")
cpu = paddle.CPUPlace()
loader = paddle.io.DataLoader(Images(), feed_list=[image], batch_size=2, return_list=False, places=cpu)
executor = paddle.static.Executor(cpu)
quantisation = PostTrainingQuantization(
    executor=executor, model_dir=folder, model_filename="float.pdmodel", params_filename="float.pdiparams",
    data_loader=loader, batch_nums=2, algo="abs_max",
    quantizable_op_type=["conv2d", "depthwise_conv2d"], onnx_format=onnx_format,
)
quantisation.quantize()
quantisation.save_quantized_model(folder, "model.pdmodel", "model.pdiparams")
program, feeds, fetches = paddle.static.load_inference_model(
    folder, executor, model_filename="model.pdmodel", params_filename="model.pdiparams"
)
images = np.random.RandomState(9).rand(2, 3, 32, 32).astype("float32")
np.save(folder + "/expected.npy", executor.run(program, feed={"image": images}, fetch_list=fetches)[0])
"""


@pytest.mark.parametrize("onnx_format", [False, True])
def test_a_quantised_model_computes_what_paddles_executor_computes(tmp_path, onnx_format):
    command = [sys.executable, "-c", _QUANTISE, str(tmp_path), str(onnx_format)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    folder = ModelFolder.open(tmp_path, config=CONFIG)
    assert program_facts(folder.model).quantised
    images = np.random.RandomState(9).rand(2, 3, 32, 32).astype(np.float32)
    expected = np.load(tmp_path / "expected.npy")
    float_model = ModelFolder.open(tmp_path, "float.pdmodel", "float.pdiparams", CONFIG)
    (unquantised,) = open_predictor(float_model)({"image": images})
    noise = np.abs(unquantised - expected).mean()
    assert noise > 1e-4  # so that a runtime which drops the quantisers is seen below
    for onednn in (False, True):
        (found,) = open_predictor(folder, onednn=onednn)({"image": images})
        # A value on the edge between two integers may fall to either side, hence the mean.
        assert np.abs(found - expected).mean() < 0.02 * noise


def test_a_compiled_network_holds_the_weights_of_now():
    import paddle

    detector = make_detector(5)
    images = np.random.RandomState(1).rand(2, 3, 64, 64).astype(np.float32)
    for _ in range(2):
        compiled = compiled_predictor(detector, (64, 64))
        for have, want in zip(compiled({"image": images}), dygraph_predictor(detector)({"image": images})):
            np.testing.assert_allclose(have, want, atol=1e-4 * max(1, np.abs(want).max()))
        with paddle.no_grad():
            for parameter in detector.parameters():
                parameter.set_value(parameter * 0.98)
