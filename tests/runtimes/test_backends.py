"""One model on every runtime: the same outputs, whatever form it has and however many images come."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from picoquant.backends.base import Machine
from picoquant.backends.onnx.export import write_onnx_form
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.source import Source
from picoquant.errors import ToolError, UserError
from picoquant.packaging.open_model import open_model
from picoquant.packaging.package import Models, package
from picoquant.runtimes.backends import check_backends, running
from picoquant.runtimes.model import model_of_folder
from picoquant.targets.profiles import load_target
from tests.processes import ended

ONE = Machine(threads=1)


def feed_for(names, batch):
    scale = np.full((len(batch), 2), 0.5, np.float32)
    return {name: {"image": batch, "scale_factor": scale}[name] for name in names}


def needs(backend, opt):
    if backend == "lite" and opt.python is None:
        pytest.skip(f"{opt.path} has no Python runtime beside it")


@pytest.mark.parametrize("backend", ["paddle-no-onednn", "onnx", "lite"])
@pytest.mark.parametrize("kind", ["raw", "boxes", "detections"])
def test_a_float_model_of_each_kind_detects_the_same_on_each_runtime(
    kind,
    backend,
    exports,  # noqa: F811
    images,  # noqa: F811
    opt,
):
    needs(backend, opt)
    model = model_of_folder(exports[kind])
    assert model.precision == "fp32"
    with running(model, "paddle", ONE) as reference:
        feed = feed_for(reference.predict.input_names, images)
        expected = reference.decoder.decode(reference.predict(feed), np.full((3, 2), 0.5, np.float32))
    with running(model, backend, Machine(1, opt=str(opt.path))) as other:
        assert other.name == f"{backend.replace('-', '_')}_fp32" and other.bytes > 1e6 and not other.note
        found = other.decoder.decode(other.predict(feed), np.full((3, 2), 0.5, np.float32))
    assert sum(map(len, expected)) >= 30  # so that there is something to compare
    for one, two in zip(expected, found):
        assert one.classes.tolist() == two.classes.tolist()
        np.testing.assert_allclose(one.scores, two.scores, atol=1e-4)
        np.testing.assert_allclose(one.boxes, two.boxes, atol=0.05)


def test_an_int8_model_s_folder_package_archive_and_onnx_file_are_one_network(small, opt, tmp_path):  # noqa: F811
    made = package(Models(small), load_target("rv1126"), tmp_path, opt)
    image = np.random.default_rng(0).random((2, 3, 32, 32), np.float32)
    expected = open_predictor(small, threads=1)({"image": image})
    places = (small.path, made.folder, made.archive, made.folder / "model_int8.onnx")
    for place in places:
        with open_model(place) as model, running(model, "onnx", ONE) as ready:
            assert (model.precision, ready.name) == ("int8", "onnx_int8")
            assert model.config.labels == ("red cell", "white cell", "platelet")
            for one, two in zip(expected, ready.predict({"image": image})):
                assert one.shape == two.shape
                assert np.abs(one - two).mean() < 0.02 * np.abs(one).mean()


def test_paddle_lite_runs_all_images_in_one_process_and_says_what_it_computes(small, opt, started):  # noqa: F811
    needs("lite", opt)
    image = np.random.default_rng(0).random((5, 3, 32, 32), np.float32)
    with running(model_of_folder(small), "lite", Machine(opt=str(opt.path))) as ready:
        assert ready.note == "weights of the INT8 model, computed in float"
        process = started()
        batch = ready.predict({"image": image})
        seconds = ready.predict.network_seconds
        singles = [ready.predict({"image": image[i : i + 1]}) for i in range(5)]
        assert len(process) == 1 and started() == process
        assert 0 < ready.predict.network_seconds < seconds
    assert ended(process)
    for index, whole in enumerate(batch):
        np.testing.assert_array_equal(whole, np.concatenate([single[index] for single in singles]))


def test_a_runtime_that_dies_is_said(small, opt, started):  # noqa: F811
    needs("lite", opt)
    with running(model_of_folder(small), "lite", Machine(opt=str(opt.path))) as ready:
        (process,) = started()
        os.kill(process, signal.SIGKILL)
        with pytest.raises(ToolError, match=r"Paddle Lite's x86 runtime did not run the model \(SIGKILL\)"):
            ready.predict({"image": np.zeros((1, 3, 32, 32), np.float32)})


def test_what_is_no_model(tmp_path, small):  # noqa: F811
    with pytest.raises(UserError, match="nothing does not exist: name a folder with model.pdmodel"):
        open_model(tmp_path / "nothing").__enter__()
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ToolError, match="bad.onnx is no ONNX model"):
        open_model(tmp_path / "bad.onnx").__enter__()
    write_onnx_form(Source(small), tmp_path / "bare.onnx")
    with pytest.raises(UserError, match=r"bare.onnx has no infer_cfg.yml beside it"):
        open_model(tmp_path / "bare.onnx").__enter__()
    with (
        open_model(tmp_path / "bare.onnx", small.config) as model,
        pytest.raises(
            ToolError, match="bare is an ONNX file, which paddle does not take: use --backend onnx"
        ),
    ):
        running(model, "paddle").__enter__()


def test_names_of_backends():
    others = [
        "dygraph",
        "paddle",
        "paddle-no-onednn",
        "lite",
        "tflite",
        "tflite-no-xnnpack",
        "tflite-16x8",
        "openvino",
        "rknn",
        "tpu-mlir",
        "esp-ppq",
        "ncnn",
        "mnn",
    ]
    assert check_backends(["onnx", "all"]) == ["onnx", *others]
    with pytest.raises(UserError, match="unknown backend 'tensorrt'; known: dygraph, paddle"):
        check_backends(["tensorrt"])
