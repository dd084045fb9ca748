"""Which tensors an NPU holds, and networks with chosen tensors and weights rounded."""

from __future__ import annotations

import shutil

import numpy as np
import paddle
import pytest

from picoquant import build_detector
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.errors import PicoquantError
from picoquant.export.paddle_export import export_model
from picoquant.int8.fake_quant_run import round_tensors
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.passes.activations import target_tensors
from picoquant.int8.passes.weights import rounded_weight
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.engine.simulation import Simulation
from tests.networks.paddle_static import graph_of, run_folder, static_session
from tests.networks.small_net import CONFIG, batches


@pytest.fixture
def small(small_model, tmp_path):
    """The folded small network and a feed."""
    shutil.copytree(small_model, tmp_path / "folded")
    fold_folder(tmp_path / "folded")
    return ProgramModel.load(tmp_path / "folded"), next(batches(0))


def test_tensors_of_the_small_network(small):
    model, _ = small
    tensors = target_tensors(model.graph())
    kinds = {name: op.type for op in model.operators for name in op.outputs}
    # Convolution, bias and ReLU6 are one; a head's bias is added in its convolution; sigmoid is apart. The
    # exporter ends in an identity for each output, which shares what it copies.
    assert [kinds.get(name) for name in tensors.names[:4]] == [None, "relu6", "relu6", "relu6"]
    assert sorted(kinds[name] for name in tensors.names[4:]) == ["elementwise_add"] * 2 + ["scale"] * 2 + [
        "sigmoid"
    ]
    assert sorted(map(len, tensors.groups)) == [1] * 5 + [2] * 2
    inside = [kinds[name] for name in tensors.fused]
    assert sorted(inside) == ["conv2d"] * 4 + ["depthwise_conv2d"] + ["elementwise_add"] * 3


def test_concat_and_what_moves_values_share_a_range():
    with static_session():
        image = paddle.static.data("image", [1, 2, 4, 4])
        other = paddle.nn.functional.hardswish(image)
        joined = paddle.concat([image, other], 1)
        moved = paddle.transpose(paddle.reshape(joined, [1, 4, 16]), [0, 2, 1])
        paddle.nn.functional.sigmoid(moved)
        program = paddle.static.default_main_program()
        tensors = target_tensors(graph_of(program, ["image"]))
    assert {"image", other.name, joined.name, moved.name} <= set(tensors.group_of("image"))
    assert len(tensors.groups) == 2  # the sigmoid's result is alone


def test_nothing_rounded_is_the_network_itself(small, tmp_path):
    model, feed = small
    expected = run_folder(tmp_path / "folded", feed)
    for value, known in zip(Simulation(model, {})(feed), expected):
        np.testing.assert_allclose(value, known, atol=1e-5)


@pytest.mark.parametrize("params", [QuantParams.symmetric(0.7), QuantParams.asymmetric(-0.1, 0.6)])
def test_a_rounded_input_has_the_steps_of_its_range(small, params):
    model, feed = small
    # 0.7: steps of 0.7 / 127, clipped at 0.7. -0.1 to 0.6: 255 steps of 0.7 / 255.
    value = Simulation(model, {"image": params}, outputs=["image"])(feed)[0]
    scale, high = (0.7 / 127, 0.7) if params.is_symmetric else (0.7 / 255, 0.6)
    assert params.scale == pytest.approx(scale)
    np.testing.assert_allclose(value / scale, np.rint(value / scale), atol=1e-3)
    np.testing.assert_allclose(value.max(), high, atol=scale)
    inside = feed["image"] < high
    assert np.abs(value - feed["image"])[inside].max() <= scale / 2 + 1e-6
    np.testing.assert_allclose(value, params.fake_quantise(feed["image"]), atol=scale)


def test_weights_are_replaced_in_the_copy_only(small):
    model, feed = small
    operator = quantizable_operators(model, QuantAwareSettings())[0]
    before = model.values[operator.weight]
    rounded = rounded_weight(before, operator.axis)
    # Each output channel has 127 levels to its largest weight.
    step = np.abs(before).max(axis=(1, 2, 3), keepdims=True) / 127
    np.testing.assert_allclose(rounded / step, np.rint(before / step), atol=1e-3)
    plain, changed = (
        Simulation(model, {}, weights)(feed)[1] for weights in (None, {operator.weight: rounded})
    )
    assert 0 < np.abs(changed - plain).max() < 0.1 * np.abs(plain).max()
    np.testing.assert_array_equal(model.values[operator.weight], before)


@pytest.mark.parametrize("params", [QuantParams.symmetric(0.7), QuantParams.asymmetric(-0.1, 0.6)])
def test_a_saved_program_predicts_what_the_engine_computes(small, tmp_path, params):
    model, feed = small
    sigmoid = next(op for op in model.operators if op.type == "sigmoid").results[0]
    ranges = {"image": params, sigmoid: QuantParams.symmetric(1.0), model.outputs[1]: params}
    rounded = model.copy()
    renamed = round_tensors(rounded, ranges)
    assert set(renamed) == set(ranges) and len(set(renamed.values())) == 3
    rounded.with_outputs([renamed.get(name, name) for name in model.outputs]).save(tmp_path / "simulated")
    predict = open_predictor(ModelFolder.open(tmp_path / "simulated", config=CONFIG))
    for value, expected in zip(predict(feed), Simulation(model, ranges)(feed)):
        np.testing.assert_allclose(value, expected, atol=1e-4)


def test_a_tensor_that_is_not_there_is_named(small):
    model, _ = small
    with pytest.raises(PicoquantError, match="no tensor nothing"):
        round_tensors(model, {"nothing": QuantParams.symmetric(1.0)})
    with pytest.raises(PicoquantError, match="no tensor nothing"):
        Simulation(model, {"nothing": QuantParams.symmetric(1.0)})


def test_every_tensor_of_a_detector_can_be_rounded(tmp_path):
    config = InferConfig((64, 64), ("ball", "box"))
    export_model(build_detector("picodet_s_416_coco_npu", 2), tmp_path / "m", "raw", (64, 64), config)
    fold_folder(tmp_path / "m")
    model = ProgramModel.load(tmp_path / "m")
    tensors = target_tensors(model.graph())
    ranges = {name: QuantParams.symmetric(8.0) for name in tensors.names}
    feed = {"image": np.random.RandomState(0).rand(1, 3, 64, 64).astype("float32")}
    outputs = Simulation(model, ranges)(feed)
    levels = outputs[0] / (8.0 / 127)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    # All of a convolution with ReLU6 but its result are inside it.
    assert not set(tensors.fused) & set(tensors.names)
    assert len(tensors.fused) > 200
