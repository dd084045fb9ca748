"""ONNX models of several images a call: each image's values are those it has alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import picoquant
from picoquant.backends.onnx.batch import require_same, with_batch
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.parity import run_onnx
from picoquant.backends.onnx.postprocessing import with_outputs
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.source import Source
from picoquant.data.images import read_image
from picoquant.detector.weights import load_weights
from picoquant.errors import ToolError
from picoquant.export.paddle_export import export_model
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image
from tests.networks.quick_int8 import quick_int8


@pytest.fixture(scope="module")
def cells(shared, tmp_path_factory):
    """The INT8 network of the blood cells, as ONNX by kind of output, and 10 images `[10, 3, 320, 320]`."""
    folder = tmp_path_factory.mktemp("cells")
    network = picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    load_weights(network, shared / "weights/picodet_s_npu_bccd.pdparams")
    network.eval()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    config = InferConfig((320, 320), ("RBC", "WBC", "Platelets"), mean, std, strides=tuple(network.strides))
    export_model(network, folder / "raw", "raw", (320, 320), config)
    paths = sorted((shared / "datasets/bccd/JPEGImages").glob("*.jpg"))[:10]
    images = np.concatenate([feed_of_image(read_image(path), config)["image"] for path in paths])
    int8 = quick_int8(ModelFolder.open(folder / "raw"), folder / "int8", images[:4])
    raw = make_onnx(Source(int8).network)
    models = {"raw": raw, "boxes": with_outputs(raw, "boxes", int8.config)}
    for kind, model in models.items():
        write_onnx(model, folder / f"{kind}.onnx")
    return folder, models, images


@pytest.mark.parametrize("kind", ["raw", "boxes"])
@pytest.mark.parametrize("batch", [2, 4, "dynamic"])
def test_each_of_several_blood_cell_images_is_computed_as_alone(cells, tmp_path, kind, batch):
    folder, models, images = cells
    path = tmp_path / "several.onnx"
    write_onnx(with_batch(models[kind], batch), path)
    several = OnnxPredictor(path, threads=1)
    assert several.inputs == (("image", (-1 if batch == "dynamic" else batch, 3, 320, 320)),)
    # 10 images: for a batch of 4 the last call is filled up.
    expected = run_onnx(folder / f"{kind}.onnx", {"image": images})
    found = several({"image": images})
    assert any(one[0].tobytes() != one[1].tobytes() for one in expected)
    for one, other in zip(expected, found):
        assert one.dtype == other.dtype and one.shape == other.shape
        # Integers are equal; ONNX Runtime up to 1.19 adds the floats of boxes in another order where they are several.
        np.testing.assert_allclose(other, one, rtol=0 if kind == "raw" else 1e-5, atol=0)
    difference = require_same(folder / f"{kind}.onnx", path, images[: 3 if batch == "dynamic" else batch])
    assert difference <= (0 if kind == "raw" else 1e-3)  # pixels
    model = onnx.load(path)
    dims = {value.type.tensor_type.shape.dim[0].dim_param or value.type.tensor_type.shape.dim[0].dim_value
            for value in [*model.graph.input, *model.graph.output]}  # fmt: skip
    assert dims == {"batch" if batch == "dynamic" else batch}


def test_the_model_of_one_image_stays_as_it_is(cells):
    folder, models, _ = cells
    with_batch(models["raw"], 4)
    assert models["raw"].SerializeToString(deterministic=True) == (folder / "raw.onnx").read_bytes()


@pytest.mark.parametrize("config", ["picodet_s_320_coco_lcnet.yml", "legacy_model/picodet_s_320_coco.yml"])
@pytest.mark.parametrize("batch", [3, "dynamic"])
def test_other_networks(models, tmp_path, config, batch):
    single = make_onnx(Source(models(config)).network)
    write_onnx(single, tmp_path / "single.onnx")
    write_onnx(with_batch(single, batch), tmp_path / "several.onnx")
    images = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    assert require_same(tmp_path / "single.onnx", tmp_path / "several.onnx", images) == 0


def little(*nodes, shapes=((1, 2, 2), (1, 2, 2)), constants=()):
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("xy", shapes)
    ]
    stored = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph([helper.make_node(*node[:3], **node[3]) for node in nodes], "little", values[:1],
                              values[1:], stored)  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_a_network_whose_images_meet_is_refused(tmp_path):
    # The mean over all images: of one image it is that image's.
    model = little(
        ("ReduceMean", ["x"], ["mean"], {"axes": [0], "keepdims": 1}), ("Sub", ["x", "mean"], ["y"], {})
    )
    write_onnx(model, tmp_path / "single.onnx")
    images = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    write_onnx(with_batch(model, 3), tmp_path / "several.onnx")
    with pytest.raises(
        ToolError, match=r"several.onnx computes y of 3 images otherwise than of each alone \(by 4\)"
    ):
        require_same(tmp_path / "single.onnx", tmp_path / "several.onnx", images)


def test_shapes_of_one_image():
    tile = little(("Tile", ["x", "times"], ["y"], {}), constants=[("times", np.array([1, 1, 1]))])
    with pytest.raises(ToolError, match=r"y \(Tile\) of the ONNX model has the shape of one image"):
        with_batch(tile, 2)
    two = little(("Identity", ["x"], ["y"], {}), shapes=((2, 2, 2), (2, 2, 2)))
    with pytest.raises(ToolError, match="x of the ONNX model is not of one image"):
        with_batch(two, 4)
    flat = little(
        ("Reshape", ["x", "to"], ["y"], {}), shapes=((1, 2, 2), (1, 4)), constants=[("to", np.array([1, -1]))]
    )
    (shape,) = (value for value in with_batch(flat, "dynamic").graph.initializer)
    assert onnx.numpy_helper.to_array(shape).tolist() == [0, -1]  # 0: as many as the input has
