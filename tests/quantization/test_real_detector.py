"""PicoDet-S-NPU in every kind of export, with a small input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from picoquant import build_detector
from picoquant.export.paddle_export import export_model
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import program_facts
from picoquant.quantization.quantize import quantize
from tests.networks.small_net import settings

SIZE = (64, 64)
CONFIG = InferConfig(SIZE, ("ball", "box", "cross"))


def batches(start):
    """Endless feeds of four images."""
    while True:
        image = np.random.RandomState(start).rand(4, 3, *SIZE).astype("float32")
        yield {"image": image, "scale_factor": np.ones((4, 2), np.float32)}
        start += 1


@pytest.mark.parametrize(
    ("kind", "use_pact"),
    [
        ("raw", True),
        ("boxes", False),
        pytest.param("detections", False, marks=pytest.mark.slow),
    ],
)
def test_every_convolution_becomes_int8(tmp_path, kind, use_pact):
    detector = build_detector("picodet_s_416_coco_npu", num_classes=3)
    export_model(detector, tmp_path / "fp32", kind, SIZE, CONFIG)
    places = tmp_path / "fp32", tmp_path / "int8", tmp_path / "work"
    result = quantize(*places, batches, settings(2, {"use_pact": use_pact}, learning_rate=1e-5))
    before = program_facts(ModelFolder.open(tmp_path / "fp32").model)
    after = program_facts(ModelFolder.open(tmp_path / "int8").model)
    assert (before.inputs, before.outputs) == (after.inputs, after.outputs)
    convolutions = sum("conv2d" in operator for operator in before.operators)
    assert result.metrics["quantized_operators"] == convolutions == 122
    dequantisers = after.operators.count("fake_channel_wise_dequantize_max_abs")
    assert dequantisers == convolutions
    described = json.loads((tmp_path / "int8" / "quantization.json").read_text())
    ranges = np.array(list(described["ranges"].values()))
    assert np.isfinite(ranges).all() and (ranges > 0).all()
    losses = np.loadtxt(tmp_path / "int8" / "qat.csv", delimiter=",", skiprows=1, usecols=1)
    assert np.isfinite(losses).all()
