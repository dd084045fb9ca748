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
from picoquant.int8.fake_quant_run import Simulation
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.passes.activations import target_tensors
from picoquant.int8.passes.weights import rounded_weight
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.graph import graph_of
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.static.programs import load_model, read_variable
from picoquant.paddle_program.static.session import static_session
from tests.networks.small_net import CONFIG, batches


@pytest.fixture
def small(small_model, tmp_path):
    """The folded small network, its executor and a feed."""
    shutil.copytree(small_model, tmp_path / "folded")
    with static_session():
        executor = paddle.static.Executor(paddle.CPUPlace())
        fold_folder(tmp_path / "folded")
        yield load_model(tmp_path / "folded", executor), executor, next(batches(0))


def test_tensors_of_the_small_network(small):
    model, _, _ = small
    tensors = target_tensors(model.graph())
    block = model.program.global_block()
    kinds = {name: op.type for op in block.ops for name in op.output_arg_names}
    # Convolution, bias and ReLU6 are one; a head's bias is added in its convolution; sigmoid is apart. The
    # exporter ends in an identity for each output, which shares what it copies.
    assert [kinds[name] for name in tensors.names[:4]] == ["feed", "relu6", "relu6", "relu6"]
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


def test_nothing_rounded_is_the_network_itself(small):
    model, executor, feed = small
    expected = executor.run(model.program, feed={"image": feed["image"]}, fetch_list=list(model.fetches))
    for value, known in zip(Simulation(model, executor, {})(feed), expected):
        np.testing.assert_allclose(value, known, atol=1e-5)


@pytest.mark.parametrize("params", [QuantParams.symmetric(0.7), QuantParams.asymmetric(-0.1, 0.6)])
def test_a_rounded_input_has_the_steps_of_its_range(small, params):
    model, executor, feed = small
    # 0.7: steps of 0.7 / 127, clipped at 0.7. -0.1 to 0.6: 255 steps of 0.7 / 255.
    value = Simulation(model, executor, {"image": params}, outputs=["image"])(feed)[0]
    scale, high = (0.7 / 127, 0.7) if params.is_symmetric else (0.7 / 255, 0.6)
    assert params.scale == pytest.approx(scale)
    np.testing.assert_allclose(value / scale, np.rint(value / scale), atol=1e-3)
    np.testing.assert_allclose(value.max(), high, atol=scale)
    inside = feed["image"] < high
    assert np.abs(value - feed["image"])[inside].max() <= scale / 2 + 1e-6
    np.testing.assert_allclose(value, params.fake_quantise(feed["image"]), atol=scale)


def test_weights_are_replaced_in_the_copy_only(small):
    model, executor, feed = small
    operator = quantizable_operators(model.program, QuantAwareSettings())[0]
    scope = paddle.static.global_scope()
    before = read_variable(scope, operator.weight)
    rounded = rounded_weight(before, operator.axis)
    # Each output channel has 127 levels to its largest weight.
    step = np.abs(before).max(axis=(1, 2, 3), keepdims=True) / 127
    np.testing.assert_allclose(rounded / step, np.rint(before / step), atol=1e-3)
    plain, changed = (
        Simulation(model, executor, {}, weights)(feed)[1] for weights in (None, {operator.weight: rounded})
    )
    assert 0 < np.abs(changed - plain).max() < 0.1 * np.abs(plain).max()
    np.testing.assert_array_equal(read_variable(scope, operator.weight), before)


def test_a_saved_simulation_predicts_the_same(small, tmp_path):
    model, executor, feed = small
    simulation = Simulation(model, executor, {"image": QuantParams.symmetric(1.0)})
    folder = simulation.save(tmp_path / "simulated", CONFIG)
    for value, expected in zip(open_predictor(folder)(feed), simulation(feed)):
        np.testing.assert_allclose(value, expected, atol=1e-4)


def test_a_tensor_that_is_not_there_is_named(small):
    model, executor, _ = small
    with pytest.raises(PicoquantError, match="no tensor nothing"):
        Simulation(model, executor, {"nothing": QuantParams.symmetric(1.0)})


def test_every_tensor_of_a_detector_can_be_rounded(tmp_path):
    config = InferConfig((64, 64), ("ball", "box"))
    export_model(build_detector("picodet_s_416_coco_npu", 2), tmp_path / "m", "raw", (64, 64), config)
    with static_session():
        executor = paddle.static.Executor(paddle.CPUPlace())
        fold_folder(tmp_path / "m")
        model = load_model(tmp_path / "m", executor)
        tensors = target_tensors(model.graph())
        ranges = {name: QuantParams.symmetric(8.0) for name in tensors.names}
        feed = {"image": np.random.RandomState(0).rand(1, 3, 64, 64).astype("float32")}
        outputs = Simulation(model, executor, ranges)(feed)
    levels = outputs[0] / (8.0 / 127)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-3)
    # All of a convolution with ReLU6 but its result are inside it.
    assert not set(tensors.fused) & set(tensors.names)
    assert len(tensors.fused) > 200
