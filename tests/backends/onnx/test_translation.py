"""ONNX without paddle2onnx: what Paddle's kernels compute, and, of detectors, what paddle2onnx's model computes."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnxruntime
import pytest

from picoquant.backends.onnx import paddle2onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.onnx.translation.model import convert, translate
from picoquant.backends.onnx.translation.operators import RULES
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import ToolError
from picoquant.export import InferConfig
from picoquant.export.paddle_export import export_model
from picoquant.int8.files import open_network
from picoquant.postprocess import NmsSettings
from picoquant.quantization.engine.operators import OPERATORS
from tests.convert.test_from_onnx import varied
from tests.networks.every_operator import quantised_with_zero_points
from tests.quantization.engine.test_operators import CASES, IMAGE, SMALLER, of_paddle

SIZE = (64, 96)
# What no detector has, or only with other attributes; paddle2onnx has it.
LEFT_OUT = {"mul", "pad3d"}
REFUSED = ("by tanh", "to a given size", "cells is not converted")

# The engine has no such resizing; a half goes up.
CORNERS = ("nearest_interp_v2", {"X": IMAGE}, {**SMALLER, "interp_method": "nearest", "align_corners": True})


def run(model, feed):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {one.name: feed[one.name] for one in session.get_inputs()})


def test_what_is_left_out():
    assert set(OPERATORS) - set(RULES) == LEFT_OUT


@pytest.mark.parametrize("opset", [13, 11])
def test_operators_compute_what_paddles_kernels_do(opset):
    """All cases that the quantisation's engine is tested with, and one more."""
    computed, refused = set(), []
    for op_type, inputs, attributes in [*CASES, CORNERS]:
        if op_type in LEFT_OUT:
            continue
        expected, graph, feed = of_paddle(op_type, inputs, attributes)
        typed = {  # Paddle infers no type for some of the older operators
            name: replace(graph.tensor(name), dtype=str(value.dtype))
            for name, value in zip(graph.outputs, expected)
        }
        whole = replace(graph, tensors={**graph.tensors, **typed})
        try:
            found = run(convert(whole, {}, opset, "a program"), feed)
        except ToolError as error:
            refused.append((op_type, str(error)))
            continue
        computed.add(op_type)
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected):
            assert ours.shape == theirs.shape, (op_type, attributes)
            message = f"{op_type} {attributes}"
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=message)
    assert all(any(text in said for text in REFUSED) or opset < 13 for _, said in refused), refused
    assert len(computed) > 50


CONFIGS = [
    "picodet_s_416_coco_npu.yml", "picodet_xs_320_coco_lcnet.yml", "legacy_model/picodet_s_320_coco.yml",
    "legacy_2021_08/picodet_s_shufflenetv2_320_coco.yml", "legacy_2021_08/picodet_m_mbv3_320_coco.yml",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["raw", "boxes"])
@pytest.mark.parametrize("config", CONFIGS)
def test_a_detector_is_the_one_that_paddle_runs(config, kind, tmp_path, root):
    detector = varied(str(root / "configs" / config), 3, num_classes=3)
    folder = export_model(detector, tmp_path, kind, SIZE, InferConfig(SIZE, ("a", "b", "c")))
    feed = {"image": np.random.RandomState(1).rand(2, 3, *SIZE).astype("float32")}
    found = run(translate(folder.model, folder.params, 13), feed)
    for ours, theirs in zip(found, open_predictor(folder, threads=1)(feed)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.skipif(find_spec("paddle2onnx") is None, reason="paddle2onnx has no wheel for Python 3.13")
def test_an_int8_model_computes_the_same_integers_as_by_paddle2onnx(tmp_path, monkeypatch):
    network = open_network(quantised_with_zero_points(tmp_path))
    one = network.for_one_image((32, 32), "a network")
    feed = {"image": np.random.RandomState(1).rand(1, 3, 32, 32).astype("float32")}
    models = [make_onnx(one)]
    monkeypatch.setattr(paddle2onnx, "_package", lambda: "")
    models.append(make_onnx(one))
    for first, second in zip(*(run(model, feed) for model in models)):
        np.testing.assert_array_equal(first, second)


def test_nms_inside_gives_paddles_detections(tmp_path):
    detector = varied("picodet_s_416_coco_npu.yml", 3, num_classes=3)
    nms = NmsSettings(0.3, 0.5, 1000, 20)
    folder = export_model(detector, tmp_path, "detections", SIZE, InferConfig(SIZE, ("a", "b", "c"), nms=nms))
    for seed in range(3):
        image = np.random.RandomState(seed).rand(1, 3, *SIZE).astype("float32")
        feed = {"image": image, "scale_factor": np.array([[0.5, 2.0]], "float32")}
        rows, count = run(translate(folder.model, folder.params, 13), feed)
        wanted, of_images = open_predictor(folder, threads=1)(feed)
        assert len(rows) > 3 and count.tolist() == of_images.tolist() == [len(rows)]
        assert (np.diff(rows[:, 1]) <= 0).all()
        by_class = rows[np.argsort(rows[:, 0], kind="stable")]
        np.testing.assert_allclose(by_class, wanted, rtol=1e-3, atol=1e-2)
