"""Models that suppress by themselves, and ranges that came with the weights."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import paddle
import pytest

from picoquant.backends.source import Source
from picoquant.config.detector import load_detector
from picoquant.detector.weights import input_ranges_of, load_weights
from picoquant.errors import ConfigError, UserError
from picoquant.export.paddle_export import export_model
from picoquant.int8.passes.activations import behind_suppression, target_tensors
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.quantization.quantize import quantize
from picoquant.quantization.settings import QuantizationSettings
from picoquant.weight_files.quantised import RANGES_FILE
from tests.detector.conftest import SMALL
from tests.networks.small_net import settings
from tests.weight_files.test_quantised import PADDLESLIM, WRAP

SIDE = 64
CONFIG = InferConfig((SIDE, SIDE), ("a", "b"))


def network():
    with paddle.utils.unique_name.guard():
        paddle.seed(1)
        return load_detector(SMALL)


def batches(start):
    random = np.random.RandomState(start)
    while True:
        image = random.rand(2, 3, SIDE, SIDE).astype("float32")
        yield {"image": image, "scale_factor": np.ones((2, 2), np.float32)}


def int8_network(model, folder, **own):
    """The network that PTQ makes of an exported model."""
    own = {"method": "ptq", "cross_layer_equalisation": False, **own}
    wanted = replace(settings(), quantization=QuantizationSettings(**own))
    quantize(model, folder / "out", folder / "work", batches, wanted, config=CONFIG)
    return Source(ModelFolder.open(folder / "out", config=CONFIG)).network


def test_a_network_with_nms_inside_is_quantised_up_to_it(tmp_path):
    model = export_model(network(), tmp_path / "model", "detections", (SIDE, SIDE), CONFIG)
    found = int8_network(model.path, tmp_path)
    detections = behind_suppression(found.graph)
    assert len([name for name in detections if "multiclass_nms3" in name]) == 3
    assert detections.isdisjoint(found.tensors) and detections.isdisjoint(target_tensors(found.graph).names)
    convolutions = [op for op in found.graph.operators if op.op_type in ("conv2d", "depthwise_conv2d")]
    assert len(found.operators) == len(convolutions)
    (suppression,) = [op for op in found.graph.operators if op.op_type == "multiclass_nms3"]
    whole = FakeQuantNetwork(found.graph, dict(found.values), (), {})
    assert set(DetectionError(whole, CONFIG).names) == {name for _, name in suppression.inputs}


@pytest.mark.parametrize(
    "tool",
    [
        pytest.param("paddleslim", marks=PADDLESLIM),
        pytest.param("paddle.quantization", marks=pytest.mark.slow),
    ],
)
def test_ranges_of_dygraph_qat_are_the_calibrated_start(tool, tmp_path):
    trained = WRAP[tool](network())
    trained.train()
    trained.raw(paddle.to_tensor(next(batches(5))["image"]) * 3)
    file = tmp_path / "model_quant.pdparams"
    paddle.save(trained.state_dict(), str(file))
    own = network()
    load_weights(own, file)
    own.eval()
    given = input_ranges_of(own, file)
    assert len(given) >= 60
    first = own.backbone.conv1.conv.weight.name
    (scale,) = [
        value.item() for name, value in trained.state_dict().items()
        if name.startswith("backbone.conv1.")
        and name.endswith(("_fake_quant_input._scale", "activation_quanter._scale"))
    ]  # fmt: skip
    assert given[first] == scale and scale > 1.5  # calibration images reach 1
    model = export_model(own, tmp_path / "model", "raw", (SIDE, SIDE), CONFIG)
    with pytest.raises(UserError, match=r"Quantize.ranges: weights takes the ranges .* has none"):
        int8_network(model.path, tmp_path / "none", ranges="weights")
    (model.path / RANGES_FILE).write_text(json.dumps(given))
    found = int8_network(model.path, tmp_path, ranges="weights")
    np.testing.assert_allclose(found.tensors["image"].params.scale * 127, scale, rtol=1e-4)


def test_ranges_of_weights_are_of_the_network_as_it_was():
    with pytest.raises(ConfigError, match="set Quantize.cross_layer_equalisation to false"):
        QuantizationSettings(ranges="weights")
