"""An ONNX model with what it leaves in float rounded, too, beside Paddle's simulation of it."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.qdq import make_onnx, with_every_tensor
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.int8.build import Int8Source, build_network, folded
from picoquant.int8.fake_quant_run import save_full_integer_simulation
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.passes.activations import target_tensors, unified_ranges
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.infer_config import InferConfig
from tests.networks.ranges import measured_ranges
from tests.networks.small_net import loaded_and_folded

SIZE = 16


class Resized(nn.Layer):
    """A convolution whose result is resized behind it."""

    def __init__(self, mode):
        super().__init__()
        self.conv, self.mode = nn.Conv2D(3, 4, 3, padding=1), mode

    def forward(self, image):
        result = nn.functional.interpolate(self.conv(image), scale_factor=2, mode=self.mode)
        return paddle.transpose(result, [0, 2, 3, 1])


@pytest.mark.parametrize(("mode", "moved"), [("nearest", True), ("bilinear", False)])
def test_what_is_moved_keeps_its_levels_and_what_is_computed_is_rounded(tmp_path, mode, moved):
    random, settings = np.random.RandomState(0), QuantAwareSettings()
    batch = {"image": random.rand(1, 3, SIZE, SIZE).astype(np.float32)}
    config = InferConfig((SIZE, SIZE), ("ball",))
    model = loaded_and_folded(lambda: Resized(mode), tmp_path, (3, SIZE, SIZE))
    groups = target_tensors(model.graph()).groups
    ranges = unified_ranges(measured_ranges(model, batch), groups)
    operators = quantizable_operators(model, settings)
    network = build_network(Int8Source(tmp_path, {}, ranges, operators, settings))
    simulated = save_full_integer_simulation(network, model, tmp_path / "simulated", config)
    single = folded(network).for_one_image((SIZE, SIZE), "the network")
    made = make_onnx(single, exact=True)
    whole = with_every_tensor(made, single)
    assert (whole is made) is moved
    write_onnx(whole, tmp_path / "whole.onnx")
    (got,), (expected,) = OnnxPredictor(tmp_path / "whole.onnx")(batch), open_predictor(simulated)(batch)
    level = max(ranges.values()) / 127
    assert (np.abs(got - expected) > 0.5 * level).mean() < 0.01  # a mean may lie on a middle
