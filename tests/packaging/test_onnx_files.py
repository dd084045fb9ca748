"""`Package.batch`: ONNX files of a package for several images a call."""

from __future__ import annotations

import json
import logging
import shutil

import numpy as np
import onnx
import pytest
import yaml

from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.errors import ConfigError, UserError
from picoquant.packaging.package import Models, package
from picoquant.packaging.sample import read_ppm
from picoquant.packaging.verify import verify
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.stages.plan import load_plan
from picoquant.targets.profiles import load_target
from tests.command_line import picoquant, refusal
from tests.networks.small_int8 import write_small
from tests.packaging.board import blocks
from tests.packaging.test_verify import WITHOUT_LITE, listed_anew

FILES = ("model_int8.onnx", "model_qdq.onnx", "model_int8_boxes.onnx", "model_int8_detections.onnx")


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    """Packages by their batch."""
    out = tmp_path_factory.mktemp("packages")
    target = load_target("generic_onnx")
    return {
        batch: package(Models(small), target, out / str(batch), sample=blocks(), batch=batch).folder
        for batch in (1, 4, "dynamic")
    }


def first_sides(path):
    graph = onnx.load(path).graph
    sides = [value.type.tensor_type.shape.dim[0] for value in [*graph.input, *graph.output]]
    return [side.dim_param or side.dim_value for side in sides]


@pytest.mark.parametrize("batch", [4, "dynamic"])
def test_files_manifest_and_texts(made, batch):
    title = "batch" if batch == "dynamic" else 4
    raw, plain, boxes, detections = (first_sides(made[batch] / name) for name in FILES)
    assert set(raw) == set(plain) == set(boxes) == {title}
    assert detections == [1, 1, "M", 1]
    manifest = json.loads((made[batch] / "manifest.json").read_text())
    assert manifest["onnx_batch"] == {
        "model_int8.onnx": {"images": batch, "max_abs_difference": 0.0},
        "model_qdq.onnx": {"images": batch, "max_abs_difference": 0.0},
        "model_int8_boxes.onnx": {"images": batch, "max_abs_difference": 0.0},
        "model_int8_detections.onnx": {"images": 1},
    }
    assert manifest["model"]["batch"] == 1  # of the Paddle model
    said = yaml.safe_load((made[batch] / "preprocess.yml").read_text())["onnx_images_a_call"]
    assert said == dict(zip(FILES, (batch, batch, batch, 1)))
    text = (made[batch] / "README.md").read_text()
    assert ("any number of images a call" if batch == "dynamic" else "4 images a call") in text


def test_only_what_takes_more_images_is_another_file(made):
    def content(batch):
        folder = made[batch]
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    one, four = content(1), content(4)
    assert {name for name in one if one[name] != four[name]} == {
        "model_int8.onnx", "model_qdq.onnx", "model_int8_boxes.onnx", "manifest.json", "preprocess.yml", "README.md",
    }  # fmt: skip
    assert one.keys() == four.keys()
    assert b"onnx_batch" not in one["manifest.json"] and b"images_a_call" not in one["preprocess.yml"]


def test_different_images_together_have_the_values_that_each_has_alone(made, small):
    image = read_ppm(made[1] / "sample/image.ppm")
    images = np.concatenate(
        [feed_of_image(np.roll(image, n, axis=1), small.config)["image"] for n in range(4)]
    )
    expected = OnnxPredictor(made[1] / "model_int8.onnx")({"image": images})
    assert any((values[0] != values[1]).any() for values in expected)
    for batch in (4, "dynamic"):
        found = OnnxPredictor(made[batch] / "model_int8.onnx")({"image": images})
        assert [one.tobytes() for one in found] == [one.tobytes() for one in expected]


@pytest.mark.parametrize(("batch", "count"), [(4, 4), ("dynamic", 2)])
def test_verify_looks_at_every_place_of_a_call(made, tmp_path, batch, count):
    folder = shutil.copytree(made[batch], tmp_path / "generic_onnx")
    checks = {check.name: check for check in verify(folder, known=WITHOUT_LITE).checks}
    assert checks["onnx"].holds and checks["paddle"].said == ("7 detections as expected",)
    assert checks["onnx"].said == (f"7 detections as expected in each of {count} images a call",)
    shutil.copyfile(made[1] / "model_int8.onnx", folder / "model_int8.onnx")
    listed_anew(folder, "model_int8.onnx")
    checks = {check.name: check for check in verify(folder, known=WITHOUT_LITE).checks}
    assert checks["onnx"].holds is False
    assert checks["onnx"].said == (f"images a call: 1, but {batch} in the manifest",)
    manifest = json.loads((folder / "manifest.json").read_text())
    for wrong in ({}, {"model_int8.onnx": {"images": 257}}, {"model_int8.onnx": {"images": True}}, [], 7):
        (folder / "manifest.json").write_text(json.dumps({**manifest, "onnx_batch": wrong}))
        with pytest.raises(UserError, match="does not say how many images model_int8.onnx takes"):
            verify(folder, known=WITHOUT_LITE)


def test_predict_takes_such_a_package(made, run_made, tmp_path):
    outputs = []
    for batch in (1, 4, "dynamic"):
        out = tmp_path / str(batch)
        done = picoquant(
            "predict", run_made / "images", "--model", made[batch], "--backend", "onnx", "--out", out, "--no-images"
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        outputs.append((out / "detections.jsonl").read_text())
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_target_with_paddle_lite_says_what_stays_at_one_image(small, opt, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "picoquant"):
        made = package(Models(small), load_target("rv1126"), tmp_path, opt, sample=blocks(), batch=2)
    assert "one image a call, as ever: model_int8_detections.onnx, paddle/, the .nb" in caplog.text
    assert first_sides(made.folder / "model_int8.onnx")[0] == 2 and (made.folder / "model.nb").is_file()


def test_what_cannot_take_more_images_is_refused_in_a_line(models, opt, tmp_path):
    float_model = Models(fp32=write_small(tmp_path / "fp32", quantised=False))
    with pytest.raises(
        UserError, match="Package.batch=4 is for the INT8 ONNX files, which arm_cpu's package"
    ):
        package(float_model, load_target("arm_cpu"), tmp_path / "out", opt, batch=4)
    inside = Models(models("picodet_s_416_coco_npu.yml", "detections"))
    with pytest.raises(
        UserError, match="Package.batch=dynamic: the model has NMS inside, which is for one image"
    ):
        package(inside, load_target("generic_onnx"), tmp_path / "out", batch="dynamic")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("value", ["0", "257", "2.5", "true", "many", "[1,2]", "null"])
def test_a_batch_that_is_none(value):
    with pytest.raises(ConfigError, match="Package.batch: expected 1 to 256 images or dynamic, found "):
        load_plan("picodet_s_qat_dis", [f"Package.batch={value}"]).check()


def test_the_command_packages_anew_for_another_batch(run_dir):
    def run(*sets):
        return picoquant("package", "--target", "generic_onnx", "--save-dir", run_dir, *sets)

    path = run_dir / "package/generic_onnx/model_int8.onnx"
    assert run().returncode == 0
    before = path.read_bytes()
    done = run("--set", "Package.batch=dynamic")
    assert done.returncode == 0, done.stderr
    assert first_sides(path)[0] == "batch"
    assert run("--set", "Package.batch=1").returncode == 0
    assert path.read_bytes() == before
    assert ModelFolder.open(run_dir / "package/generic_onnx/paddle").config.input_size == (32, 32)
    assert "Package.batch: expected 1 to 256" in refusal(run("--set", "Package.batch=0"))
