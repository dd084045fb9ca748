"""The INT8 ONNX: what is in it, and that it computes what Paddle computes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
from picoquant.backends.onnx.parity import compare, run_onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.errors import ToolError
from picoquant.int8.paddle.reader import read_network
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.edit import batch_of_one
from picoquant.paddle_program.network_input import feed_of_image, sample_image, select_inputs
from picoquant.paddle_program.params import read_params
from tests.networks.small_int8 import CONFIG, write_small


@pytest.fixture(scope="module")
def int8_file(taken_apart, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx.save(make_onnx(taken_apart[2]), path)
    return path


def with_more_outputs(path, name, feed, kind=TensorProto.UINT8):
    """The value of an inner tensor."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    onnx.save(model, path.with_name("more.onnx"))
    return run_onnx(path.with_name("more.onnx"), feed)[0]


@pytest.fixture(scope="module")
def integer_file(taken_apart, tmp_path_factory):
    """The network whose results all have a range, so that no tensor on the way to an output is float."""
    network, params = taken_apart[2], QuantParams.symmetric(20.0)
    tensors = {
        name: tensor if tensor.params else replace(tensor, params=params)
        for name, tensor in network.tensors.items()
    }
    whole = replace(network, tensors=tensors)
    path = tmp_path_factory.mktemp("onnx") / "integer.onnx"
    onnx.save(make_onnx(whole), path)
    return path


def test_onnxruntime_uses_integer_kernels_only(integer_file, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(integer_file), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    kinds = Counter(node.op_type for node in nodes)
    moves = {"Transpose", "Reshape"}
    ends = {"QuantizeLinear": 1, "DequantizeLinear": 4, "Sigmoid": 2}  # of the input, outputs, scores
    assert {kind: count for kind, count in kinds.items() if kind not in moves} == {
        "QLinearConv": 7,
        "QLinearMul": 1,
        "Clip": 8,  # of bytes: what uint8 holds beyond Paddle's levels
        **ends,
    }


def test_bytes_are_limited_to_paddles_levels(integer_file):
    model = onnx.load(integer_file)
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    maker = {node.output[0]: node for node in model.graph.node}
    ends: Counter = Counter()
    for node in model.graph.node:
        if node.op_type == "Clip":
            lowest, highest = (int(stored[name]) for name in node.input[1:])
            zero = int(stored[maker[node.input[0]].input[2]])
            assert (lowest, highest) == (max(zero - 127, 0), zero + 127)
            ends[zero] += 1
    # relu6 three times and its first result times a constant; the heads' four results have both signs.
    assert ends == {0: 4, 128: 4}


def test_scales_are_those_of_the_paddle_program(integer_file, taken_apart):
    _, params, network = taken_apart
    stored = {item.name: numpy_helper.to_array(item) for item in onnx.load(integer_file).graph.initializer}
    nodes = onnx.load(integer_file).graph.node
    pairs = {node.input[0]: node.input[1:] for node in nodes if node.op_type == "QuantizeLinear"}
    for operator in network.operators:
        scale, zero = (stored[name] for name in pairs[operator.activation])
        signed = operator.activation == "image"
        assert zero == (128 if signed else 0)
        np.testing.assert_allclose(scale, network.tensors[operator.activation].params.scale, rtol=1e-6)
    maker = {node.output[0]: node for node in nodes}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    heads = [operator for operator in network.operators if operator.weight.startswith(("class", "box"))]
    for operator in heads:  # without batch-norm, whose factor the others' scales hold
        conv = next(node for node in convolutions if node.name == operator.output)
        levels, scales, zeros = (stored[name] for name in maker[conv.input[1]].input)
        assert zeros.dtype == np.int8 and not zeros.any()
        np.testing.assert_array_equal(levels, params[operator.weight])
        np.testing.assert_allclose(scales, params[f"{operator.weight}@channel_scale"] / 127, rtol=1e-6)


def test_content(int8_file):
    model = onnx.load(int8_file)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 13
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds and kinds.count("Conv") == 7
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    maker = {node.output[0]: node for node in model.graph.node}
    for conv in (node for node in model.graph.node if node.op_type == "Conv"):
        levels, scale = (stored[name] for name in maker[conv.input[1]].input[:2])
        assert levels.dtype == np.int8 and scale.shape == (levels.shape[0],)
        assert stored[maker[conv.input[2]].input[0]].dtype == np.int32
        assert maker[maker[conv.input[0]].input[0]].op_type in ("QuantizeLinear", "Clip")
    # Nothing is stored as float but scales, clip limits and what bias rounding left over.
    assert max(item.size for item in stored.values() if item.dtype == np.float32) <= 32
    for value in [*model.graph.input, *model.graph.output]:
        assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)


def test_same_results_as_paddle(int8_file, small):
    agreement = compare(small, int8_file, "raw", sample_image(32, 32))
    assert min(agreement["signal_to_noise_db"]) > 60


def test_onnxruntime_computes_what_onnx_says(integer_file):
    """Its fused integer kernels against onnx's reference implementation, which computes node by node."""
    feed = select_inputs(feed_of_image(sample_image(32, 32), CONFIG), ["image"])
    model = onnx.load(integer_file)
    model.opset_import[0].version = 19  # the least that the reference knows; these operators are the same
    expected = ReferenceEvaluator(model).run(None, feed)
    for ours, reference in zip(run_onnx(integer_file, feed), expected):
        step = np.abs(reference).max() / 127
        assert np.abs(ours - reference).max() < 3 * step  # a level that rounds the other way, and its echo
        assert np.mean(np.abs(ours - reference) > 1e-5) < 0.1


def test_another_network_is_noticed(int8_file, small, tmp_path):
    model = onnx.load(int8_file)
    for item in model.graph.initializer:
        if item.name.endswith("weight.scale"):
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * 3, item.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(ToolError, match=r"wrong\.onnx is not the network of .*signal to noise"):
        compare(small, tmp_path / "wrong.onnx", "raw", sample_image(32, 32))


def test_dead_channel_keeps_its_bias(int8_file):
    # Channel 2 of the middle convolution has input 0, so it gives its batch-norm's bias, 0.77; its weights'
    # scale is 20 / sqrt(1e-5) = 6325 times the usual, so that rounding its bias to int32 alone gives 0.
    # 0.77 is within half a level, 6 / 127 / 2, and what the bias may lose, a quarter of a level.
    values = with_more_outputs(int8_file, "tensor_11.uint8", {"image": np.zeros((1, 3, 32, 32), np.float32)})
    assert np.abs(values[0, 2] * 6 / 127 - 0.77).max() < 0.75 * 6 / 127


def test_weights_shared_by_two_levels(tmp_path):
    folder = write_small(tmp_path, shared=True)
    program = batch_of_one(folder.model, (32, 32))
    network = read_network(program, read_params(program, folder.params), folder.model)
    path = tmp_path / "model.onnx"
    onnx.save(make_onnx(network), path)
    assert min(compare(folder, path, "raw", sample_image(32, 32))["signal_to_noise_db"]) > 60


def test_operator_that_paddle2onnx_dislikes_is_named(small):
    pytest.importorskip("paddle2onnx", reason="paddle2onnx has no wheel for this Python")
    with pytest.raises(
        ToolError, match=r"paddle2onnx did not convert .*fake_channel_wise_dequantize_max_abs"
    ):
        paddle_to_onnx(small.model, small.params)


def test_model_that_onnxruntime_dislikes(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(ToolError, match=r"bad\.onnx is no ONNX model or is damaged"):
        run_onnx(tmp_path / "bad.onnx", {})
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Unheard", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), tmp_path / "odd.onnx")
    with pytest.raises(ToolError, match=r"ONNX Runtime does not run odd\.onnx: .*Unheard"):
        run_onnx(tmp_path / "odd.onnx", {})
