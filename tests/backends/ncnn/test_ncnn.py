"""ncnn's files, written directly: their text, what they compute, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.base import Exported, Machine, load_backend
from picoquant.backends.ncnn.export import make_ncnn, ncnn_network
from picoquant.backends.ncnn.files import Layer, model_files, weights
from picoquant.backends.ncnn.network import NcnnNetwork
from picoquant.backends.ncnn.operators import layers_of
from picoquant.backends.ncnn.param import read_files
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from picoquant.int8.network import QuantizedOperator
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.graph import Graph, Operator, Tensor
from tests.backends.float_files import check_float_and_half
from tests.networks.quick_int8 import exported

NCNN = load_backend("ncnn")


def test_what_is_read_twice_is_split_and_outputs_come_last_in_their_order():
    layers = [
        Layer("Input", "x", (), ("x",), {0: 4, 1: 2, 2: 3}),
        Layer("ReLU", "a", ("x",), ("a",), {}),
        Layer("Sigmoid", "b", ("a",), ("b",), {}),
        Layer("Convolution", "c", ("a",), ("c",), {0: 1, 1: 1, 5: 0, 6: 3}, weights(np.ones(3, np.float32))),
    ]
    shapes = {"c": (1, 1, 2, 4), "a": (1, 3, 2, 4), "b": (1, 24)}
    text, data = model_files(layers, ("c", "a", "b"), shapes)
    assert [" ".join(line.split()) for line in text.splitlines()] == [
        "7767517",
        "6 8",
        "Input x 0 1 x 0=4 1=2 2=3",
        "ReLU a 1 1 x a.whole",
        "Split a.split 1 3 a.whole a.0 a.1 a.2",
        "Convolution c 1 1 a.1 c 0=1 1=1 5=0 6=3 -23330=4,3,4,2,1",
        "Noop a.output 1 1 a.2 a -23330=4,3,4,2,3",
        "Sigmoid b 1 1 a.0 b -23330=4,1,24,0,0",
    ]
    assert data == bytes(4) + np.ones(3, "<f4").tobytes()


def test_weights_say_how_they_are_stored():
    value = np.array([1, -2, 3])
    assert weights(value.astype(np.int8)) == bytes.fromhex("384b0d00 01fe0300")
    assert weights(value.astype(np.float32), half=True) == bytes.fromhex("476b3001 003c 00c0 0042 0000")


def network(groups: int, integers: np.ndarray, scales: np.ndarray) -> NcnnNetwork:
    """One convolution in INT8 of four channels."""
    values = {"strides": (1, 1), "paddings": (0, 0), "dilations": (1, 1), "groups": groups}
    op = Operator("y", "conv2d", (("Filter0", "w"), ("Input0", "x")), (("Output0", "y"),), values)
    tensors = {name: Tensor(name, (1, 4, 1, 2), "float32", False) for name in "xy"}
    operator = QuantizedOperator("conv2d", "y", "x", "w", integers, QuantParams(scales, axis=0))
    return NcnnNetwork(
        Graph((op,), tensors, ("x",), ("y",)), {"w": operator.value}, {"y": operator}, {"x": QuantParams(0.5)}
    )


def test_scales_are_reciprocals_and_groups_become_zeros():
    integers = np.arange(1, 9, dtype=np.int8).reshape(4, 2, 1, 1)
    made = network(2, integers, np.array([0.5, 0.25, 2.0, 1.0]))
    (layer,) = layers_of(made, made.graph.operators[0])
    dense = [1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 5, 6, 0, 0, 7, 8]
    assert layer.kind == "Convolution" and layer.params[6] == 16 and layer.params[8] == 1
    assert layer.data[4:20] == np.array(dense, np.int8).tobytes()
    np.testing.assert_array_equal(np.frombuffer(layer.data[20:], "<f4"), [2, 4, 0.5, 1, 2])


def test_one_convolution_computes_its_integers(tmp_path):
    """By hand: x / 0.5 to the nearest, halves away from zero, limited to 127; times the weights, times the scales."""
    pytest.importorskip("ncnn")
    made = network(1, np.eye(4, dtype=np.int8).reshape(4, 4, 1, 1) * 3, np.array([0.5, 0.25, 2.0, 1.0]))
    text, data = make_ncnn(made)
    (tmp_path / "m.param").write_text(text)
    (tmp_path / "m.bin").write_bytes(data)
    exported_ = Exported((tmp_path / "m.param", tmp_path / "m.bin"))
    x = np.array([[0.2, 0.3], [-0.25, 90.0], [1.26, -90.0], [0.74, 0.76]], np.float32).reshape(1, 4, 1, 2)
    with NCNN.runtime.open_files(exported_, None, Machine(1)) as predict:
        assert predict.inputs == (("x", (-1, 4, 1, 2)),) and predict.outputs == (("y", (-1, 4, 1, 2)),)
        (found,) = predict({"x": x})
        with pytest.raises(ToolError, match=r"m.param takes x of \[4, 1, 2\], not \[4, 2, 2\]"):
            predict({"x": np.zeros((1, 4, 2, 2), np.float32)})
    steps = np.array([[0, 1], [-1, 127], [3, -127], [1, 2]])
    expected = steps * 3 * 0.5 * np.array([[0.5], [0.25], [2.0], [1.0]])
    np.testing.assert_allclose(found.reshape(4, 2), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "config",
    ["picodet_s_416_coco_npu.yml", "picodet_xs_320_coco_lcnet.yml", "legacy_model/picodet_s_320_coco.yml"],
)
def test_networks_in_float(config, tmp_path):
    pytest.importorskip("ncnn")
    check_float_and_half(NCNN, NCNN.toolchain.find(Machine()), config, tmp_path)


def test_depthwise_convolutions_are_in_float_unless_asked(models):
    source = Source(models())
    kinds = {}
    for depthwise in (False, True):
        text, _ = make_ncnn(ncnn_network(source, depthwise=depthwise))
        lines = [line.split() for line in text.splitlines()[2:]]
        kinds[depthwise] = [
            sum(line[0] == kind and any(word.startswith("8=1") for word in line) for line in lines)
            for kind in ("Convolution", "ConvolutionDepthWise")
        ]
    dense = sum(operator.op_type == "conv2d" for operator in source.network.operators)
    assert kinds == {False: [dense, 0], True: [dense, len(source.network.operators) - dense]}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text, data: (text.replace("7767517", "7767518"), data), "does not begin with 7767517"),
        (lambda text, data: (text, data[:-4]), "the .bin has"),
        (lambda text, data: (text.replace(" 6=16", " 6=17"), data), "the .bin has"),
        (lambda text, data: (text.replace("Convolution ", "Convolute "), data), "a layer Convolute"),
        (lambda text, data: (text.replace(" 1 1 x ", " 1 1 z "), data), "line 4 of the .param reads"),
        (lambda text, data: (text + "ReLU\n", data), "not enough values"),
    ],
)
def test_damaged_files_are_refused_before_ncnn_reads_them(damage, said, tmp_path):
    text, data = make_ncnn(network(1, np.ones((4, 4, 1, 1), np.int8), np.ones(4)))
    param, binary = tmp_path / "m.param", tmp_path / "m.bin"
    param.write_text(text)
    binary.write_bytes(data)
    assert read_files(param, binary).outputs == (("y", (-1, 4, 1, 2)),)
    text, data = damage(text, data)
    param.write_text(text)
    binary.write_bytes(data)
    with pytest.raises(ToolError) as error:
        read_files(param, binary)
    assert str(error.value).startswith("m.param and m.bin are no whole ncnn model as picoquant writes it (")
    assert said in str(error.value)
    binary.unlink()
    with pytest.raises(ToolError, match="cannot read .*m.bin: No such file"):
        read_files(param, binary)


def test_post_processing_inside_is_refused_by_name(tmp_path):
    folder = exported("picodet_s_416_coco_npu.yml", tmp_path / "boxes", kind="boxes")
    with pytest.raises(ToolError, match=r"export.* as\s+raw|exported as raw"):
        make_ncnn(ncnn_network(Source(folder)))
