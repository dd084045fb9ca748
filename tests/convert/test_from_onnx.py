"""Weights out of ONNX exports of PicoDet: folded or not, of every kind and of several architectures."""

from __future__ import annotations

import numpy as np
import onnx
import paddle
import pytest

import picoquant
from picoquant.backends.onnx.graph import Graph, attribute
from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
from picoquant.convert.from_onnx import TOLERANCE, load_onnx
from picoquant.errors import WeightsError
from picoquant.export import InferConfig
from picoquant.export.paddle_export import export_model
from picoquant.paddle_program.batch_norm import factor_and_shift

SIZE = (64, 96)


def varied(config: str, seed: int, **options):
    """A network whose weights and statistics all differ."""
    model = picoquant.build_detector(config, **options)
    random = np.random.RandomState(seed)
    for name, value in model.state_dict().items():
        shape = value.shape
        if len(shape) == 4:
            value.set_value((random.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32))
        elif name.endswith(("bias", "_mean")):
            value.set_value((0.1 * random.randn(*shape)).astype(np.float32))
        elif name.endswith(("weight", "_variance")):
            value.set_value((0.5 + random.rand(*shape)).astype(np.float32))
    model.eval()
    return model


def exported(model, kind: str, folder):
    made = export_model(model, folder, kind, SIZE, InferConfig(SIZE, ("a", "b", "c")))
    return paddle_to_onnx(made.model, made.params)


def raw(model) -> list[np.ndarray]:
    model.eval()
    image = paddle.to_tensor(np.random.RandomState(5).rand(1, 3, *SIZE).astype(np.float32))
    return [value.numpy() for part in model.raw(image) for value in part]


def assert_alike(first, second) -> None:
    for a, b in zip(raw(first), raw(second)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max())


@pytest.fixture(scope="module")
def npu():
    return varied("picodet_s_416_coco_npu.yml", 3, num_classes=3)


@pytest.fixture(scope="module")
def npu_onnx(npu, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    return {kind: exported(npu, kind, folder / kind) for kind in ("raw", "detections")}  # seconds each


def other() -> object:
    paddle.seed(77)
    return picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)


def test_as_exported_the_weights_come_back_themselves(npu, npu_onnx, tmp_path):
    path = tmp_path / "a.onnx"
    onnx.save(npu_onnx["raw"], path)
    model = other()
    report = load_onnx(model, path, SIZE)
    assert (report.convs, report.outputs) == (122, 12)
    assert report.difference < TOLERANCE / 10
    assert report.folded == 0
    found = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, value in npu.state_dict().items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-5, atol=1e-5, err_msg=name)
    assert_alike(npu, model)


def fold_batch_norms(graph: Graph) -> None:
    """Put each batch-norm into the convolution before it, as other exporters do."""
    for norm in [node for node in graph.nodes if node.op_type == "BatchNormalization"]:
        conv = graph.producer(norm.input[0])
        names = dict(zip(("Scale", "Bias", "Mean", "Variance"), norm.input[1:]))
        parts = {slot: graph.constants[name] for slot, name in names.items()}
        bias = graph.constants[conv.input[2]] if len(conv.input) > 2 else 0.0
        factor, shift = factor_and_shift(parts, attribute(norm, "epsilon", 1e-5), bias)
        weight = graph.constants[conv.input[1]]
        graph.constants[conv.input[1]] = (weight * factor[:, None, None, None]).astype(np.float32)
        graph.constants[f"{norm.output[0]}.bias"] = shift
        del conv.input[2:]
        conv.input.append(f"{norm.output[0]}.bias")
        conv.output[0] = norm.output[0]
        graph.remove(norm)


@pytest.mark.parametrize("kind", [pytest.param("raw", marks=pytest.mark.slow), "detections"])
def test_batch_norm_folded(npu, npu_onnx, tmp_path, kind):
    graph = Graph(onnx.ModelProto.FromString(npu_onnx[kind].SerializeToString()))
    fold_batch_norms(graph)
    path = tmp_path / "folded.onnx"
    onnx.save(graph.finish(), path)
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(path).graph.node}
    model = other()
    report = load_onnx(model, path, SIZE)
    assert report.folded == 106
    assert_alike(npu, model)


@pytest.mark.slow
def test_renamed_and_reordered(npu, npu_onnx, tmp_path):
    """Neither names nor the order of the nodes are what is matched by."""
    model = onnx.ModelProto.FromString(npu_onnx["raw"].SerializeToString())
    graph = model.graph
    keep = {item.name for item in (*graph.input, *graph.output)}
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = name if name in keep or not name else f"t{abs(hash(name))}"
    for item in graph.initializer:
        item.name = f"t{abs(hash(item.name))}"
    del graph.value_info[:]
    nodes, ready = list(graph.node), keep | {item.name for item in graph.initializer} | {""}
    del graph.node[:]
    while nodes:  # another order that computes: always the last that is ready
        node = next(node for node in reversed(nodes) if set(node.input) <= ready)
        nodes.remove(node)
        ready |= set(node.output)
        graph.node.append(node)
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    found = other()
    load_onnx(found, path, SIZE)
    assert_alike(npu, found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    ["picodet_s_320_coco", "picodet_m_320_coco_lcnet", "picodet_s_shufflenetv2_320_coco", "picodet_r18_640_coco",
     "picodet_mobilenetv3_large_1x_416_coco", "picodet_lcnet_1_0x_416_coco"],
)  # fmt: skip
def test_other_architectures(config, tmp_path):
    model = varied(config, 4)
    path = tmp_path / "a.onnx"
    onnx.save(exported(model, "raw", tmp_path / "export"), path)
    found = picoquant.build_detector(config)
    report = load_onnx(found, path, SIZE)
    assert report.difference <= TOLERANCE
    assert_alike(model, found)


def test_what_does_not_fit_is_told(npu_onnx, tmp_path):
    path = tmp_path / "a.onnx"
    onnx.save(npu_onnx["raw"], path)
    with pytest.raises(WeightsError, match="122 convolutions, the network of --config 98"):
        load_onnx(picoquant.build_detector("picodet_s_320_coco_lcnet", num_classes=3), path, SIZE)
    with pytest.raises(WeightsError, match="num_classes"):
        load_onnx(picoquant.build_detector("picodet_s_416_coco_npu", num_classes=5), path, SIZE)
    path.write_bytes(b"no onnx at all")
    with pytest.raises(WeightsError, match="no ONNX file"):
        load_onnx(other(), path, SIZE)
    with pytest.raises(WeightsError, match="no such file"):
        load_onnx(other(), tmp_path / "none.onnx", SIZE)
