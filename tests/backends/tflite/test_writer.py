"""What a `.tflite` holds of an INT8 network, and what it cannot hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.backends.source import Source
from picoquant.backends.tflite.export import export
from picoquant.backends.tflite.first_operators import first_operators, operator_names
from picoquant.backends.tflite.hard_sigmoid import fold_hard_sigmoids
from picoquant.backends.tflite.params import bias_integers, tensor_params
from picoquant.backends.tflite.runtime import TflitePredictor
from picoquant.backends.tflite.writer import make_tflite
from picoquant.errors import ToolError
from picoquant.int8.quant_params import QuantParams
from tests.backends.tflite.litert import XNNPACK, model_of, opened, operator_kinds, tensor_types

NPU = "picodet_s_416_coco_npu.yml"


@pytest.fixture(scope="module")
def network(models):
    return Source(models(NPU)).network


@pytest.fixture(scope="module")
def content(network):
    return make_tflite(network)


def by_name(content):
    model = model_of(content)
    return model, {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}


def data(model, tensor, kind):
    return np.asarray(model.buffers[tensor.buffer].data).view(kind)


def test_it_holds_the_networks_integers_and_scales(network, content):
    model, tensors = by_name(content)
    folded = fold_hard_sigmoids(network)
    gates = {op.name for op in network.graph.operators if op.op_type == "hard_sigmoid"}
    changed = 0
    for before, operator in zip(network.operators, folded.operators):
        last = operator.integers.transpose((1, 2, 3, 0) if operator.integers.shape[1] == 1 else (0, 2, 3, 1))
        if operator.integers.shape[1] == 1 and operator.op_type == "conv2d":
            last = operator.integers.transpose(0, 2, 3, 1)
        weight = tensors[operator.weight]
        assert list(weight.shape) == list(last.shape)
        assert (data(model, weight, np.int8) == last.ravel()).all()
        assert weight.quantization.scale == pytest.approx(operator.scales, rel=1e-6)
        bias = data(model, tensors[operator.bias], np.int32)
        assert (bias == operator.bias_integers).all()
        changed += not np.array_equal(before.scales, operator.scales)
    assert changed == len(gates) == 2
    for name in network.held:
        if name in tensors and name not in gates:
            found, (op,) = tensors[name].quantization, [network.graph.producer(name)]
            if op is None or op.op_type in ("conv2d", "depthwise_conv2d", "elementwise_mul"):
                assert found.scale[0] == pytest.approx(network.ranges[name] / 127, rel=1e-6)
                assert found.zeroPoint[0] == 0
    sigmoids = [op.name for op in network.graph.operators if op.op_type == "sigmoid"]
    for name in sigmoids:  # TFLite fixes it
        assert (
            tensors[name].quantization.scale[0] == 1 / 256 and tensors[name].quantization.zeroPoint[0] == -128
        )


def test_inputs_and_outputs_have_the_networks_names_and_shapes(network, content, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    made = TflitePredictor(path, 1)
    assert made.inputs == (("image", (-1, 3, 64, 64)),)
    assert [name for name, _ in made.outputs] == list(network.graph.outputs)
    assert made.outputs[0][1] == (-1, 64, 3) and made.outputs[-1][1] == (-1, 1, 32)
    first = made({"image": np.full((3, 3, 64, 64), 0.5, np.float32)})
    assert first[0].shape == (3, 64, 3) and first[0].dtype == np.float32


def runs(content):
    opened(content, XNNPACK).invoke()
    return True


def test_a_tensor_that_was_always_zero_has_a_scale(network):
    """XNNPACK refuses a file with a scale of 0."""
    (mean, *_) = (op.name for op in network.graph.operators if op.op_type == "pool2d")
    tensors = {**network.tensors, mean: replace(network.tensors[mean], params=QuantParams.symmetric(0.0))}
    content = make_tflite(replace(network, tensors=tensors))
    assert by_name(content)[1][mean].quantization.scale[0] == np.float32(1 / 127) and runs(content)


def test_a_weight_with_one_scale_has_one(network):
    one = replace(network.operators[0], params=QuantParams(0.01))
    content = make_tflite(replace(network, operators=(one, *network.operators[1:])))
    _, tensors = by_name(content)
    assert list(tensors[one.weight].quantization.scale) == [np.float32(0.01)] and runs(content)


def test_16x8_has_the_same_ranges_in_finer_steps(models, tmp_path):
    """Nearer to what float makes of the same weights than 8 bits are; hard-swish is written out."""
    from picoquant.backends.paddle.runtime import open_predictor
    from picoquant.paddle_program.edit import write_program
    from picoquant.paddle_program.infer_config import write_infer_config
    from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
    from picoquant.paddle_program.params import write_params

    folder = models("picodet_xs_320_coco_lcnet.yml")
    network = Source(folder).network
    image = {"image": np.random.RandomState(0).rand(1, 3, 64, 64).astype(np.float32)}
    (tmp_path / "float").mkdir()
    write_program(network.program, tmp_path / "float" / MODEL)
    write_params(network.program, network.values, tmp_path / "float" / PARAMS)
    write_infer_config(folder.config, tmp_path / "float")
    wanted = open_predictor(ModelFolder.open(tmp_path / "float"), threads=1)(image)
    noise = {}
    for bits in (8, 16):
        made = export(Source(folder), tmp_path / f"int{bits}", None, activation_bits=bits)
        found = TflitePredictor(made.files[0], 1)(image)
        parts = [np.square(one - two).sum() / np.square(two).sum() for one, two in zip(found, wanted)]
        noise[bits] = np.median(parts)
    assert noise[16] < noise[8] / 10
    content = (tmp_path / "int16.tflite").read_bytes()
    assert tensor_types(content) == {"INT8", "INT16", "INT32", "INT64"}
    assert "HARD_SWISH" not in operator_kinds(content)
    _, tensors = by_name(content)
    name = network.graph.inputs[0]
    assert tensors[name].quantization.scale[0] == pytest.approx(network.ranges[name] / 32767, rel=1e-6)


def refusal(network, bits=8):
    with pytest.raises(ToolError) as error:
        make_tflite(network, bits)
    line = str(error.value)
    assert "\n" not in line
    return line


def test_what_it_cannot_hold_is_said_in_one_line(network, models, taken_apart):
    assert refusal(network, 4) == "TFLite has activations of 8 or 16 bits, not 4"
    first = network.operators[0]
    in_float = replace(network, operators=network.operators[1:])
    assert refusal(in_float).startswith(
        f"TFLite's file cannot hold conv2d {first.output}: it is in float (Quantize"
    )
    name = network.held[5]
    no_range = {**network.tensors, name: replace(network.tensors[name], params=None)}
    assert refusal(replace(network, tensors=no_range)).startswith(
        f"tensor {name} has no range, without which"
    )
    assert "has no range" in refusal(taken_apart[2])  # a model of PaddleSlim's
    boxes, inside = (Source(models(NPU, kind=kind)).network for kind in ("boxes", "detections"))
    assert "it changes values, as post-processing does: export the model as raw" in refusal(boxes)
    assert refusal(inside).startswith("the model takes ") and "so export the model as raw" in refusal(inside)
    program = type(network.program).FromString(network.program.SerializeToString())
    next(op for op in program.blocks[0].ops if op.type == "sigmoid").type = "softplus"
    assert "TFLite's file cannot hold softplus (" in refusal(replace(network, program=program))


def test_a_bias_follows_another_scale_of_its_input(network):
    operator = network.operators[3]
    params = tensor_params(fold_hard_sigmoids(network))[operator.activation]
    assert (bias_integers(operator, network, params, len(operator.integers)) == operator.bias_integers).all()
    half = bias_integers(operator, network, replace(params, scale=params.scale / 2), len(operator.integers))
    assert np.abs(half - 2 * operator.bias_integers).max() <= 1 + np.abs(half).max() * 1e-6
    none = replace(operator, bias_integers=None)
    assert bias_integers(none, network, params, 3).tolist() == [0, 0, 0]


def test_a_damaged_or_float_file_is_refused_in_one_line(content, tmp_path):
    for name, damaged in (("cut", content[: len(content) // 2]), ("none", b"no model"), ("empty", b"")):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(damaged)
        with pytest.raises(ToolError, match=f"LiteRT does not run {name}.tflite: ") as error:
            TflitePredictor(path, 1)
        assert "\n" not in str(error.value)
    with pytest.raises(ToolError, match="cannot read .*gone.tflite: No such file"):
        TflitePredictor(tmp_path / "gone.tflite")


def test_the_beginning_of_a_file_is_a_file(content):
    names = operator_names(content)
    assert len(names) == len(operator_kinds(content)) and names[1].startswith("CONV_2D ")
    assert operator_kinds(first_operators(content, 3)) == operator_kinds(content)[:3]
    assert runs(first_operators(content, 3)) and runs(first_operators(content, len(names)))
