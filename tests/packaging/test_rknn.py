"""The route for rknn-toolkit 1.x, made by the real tools; the toolkit itself is not to be had here."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest

from picoquant.backends.onnx.parity import run_onnx
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.data.images import read_image
from picoquant.packaging.package import Models, package
from picoquant.packaging.rknn import float_onnx, platform_of, script
from picoquant.packaging.sample import SampleImage
from picoquant.paddle_program.edit import batch_of_one
from picoquant.paddle_program.infer_config import normalisation
from picoquant.targets.profile_files import known_targets
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported
from tests.networks.small_int8 import CONFIG

IMAGES = [
    SampleImage(np.full((48, 80, 3), (200, 90, level), np.uint8), f"{level}.png (id {level})")
    for level in (0, 128, 255)
]
# Stands where the toolkit would: writes down what it is asked for.
TOOLKIT = """
import json, os
class RKNN:
    def __init__(self, **options): self.calls = []
    def release(self): print(json.dumps(self.calls))
    def __getattr__(self, name):
        def call(*given, **options):
            for path in (options.get("model"), options.get("dataset")):
                assert path is None or os.path.isfile(path), path
            self.calls.append([name, list(given), options])
            return 0
        return call
"""


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    return exported("picodet_s_416_coco_npu.yml", tmp_path_factory.mktemp("fp32"))


@pytest.fixture(scope="module")
def made(small, fp32, opt, tmp_path_factory):
    return package(
        Models(small, fp32), load_target("rv1126"), tmp_path_factory.mktemp("out"), opt, calibration=IMAGES
    )


def test_only_the_three_chips_have_it():
    names = {name: platform_of(load_target(name)) for name in known_targets()}
    assert {name: chip for name, chip in names.items() if chip} == {
        "rv1109": "rv1109",
        "rv1126": "rv1126",
        "rk1808": "rk1808",
    }
    assert platform_of(replace(load_target("rv1126"), soc="RK3588")) is None  # RKNPU2: another toolkit


def test_float_onnx_at_opset_12_equals_the_paddle_model(made, fp32):
    path = made.folder / "rknn/model_fp32.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert {item.version for item in model.opset_import if item.domain == ""} == {12}
    assert model.ir_version <= 7
    kinds = {node.op_type for node in model.graph.node}
    assert "Conv" in kinds and not kinds & {"QuantizeLinear", "DequantizeLinear", "BatchNormalization"}
    image = np.random.default_rng(4).random((1, 3, 64, 64), np.float32)
    expected = open_predictor(fp32, threads=1)({"image": image})
    found = run_onnx(path, {"image": image})
    assert len(found) == len(expected) == 12
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def test_hard_swish_is_written_out_for_opset_12(tmp_path):
    model = exported("picodet_s_320_coco.yml", tmp_path / "fp32")
    made = float_onnx(batch_of_one(model.model, (64, 64)), model)
    assert "HardSwish" not in {node.op_type for node in made.graph.node}
    onnx.save(made, tmp_path / "a.onnx")
    image = np.random.default_rng(4).random((1, 3, 64, 64), np.float32)
    expected = open_predictor(model, threads=1)({"image": image})
    for one, other in zip(run_onnx(tmp_path / "a.onnx", {"image": image}), expected):
        assert np.ptp(other) > 0
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def test_calibration_images_are_listed_and_at_input_size(made):
    names = (made.folder / "rknn/dataset.txt").read_text().splitlines()
    assert names == ["images/00.jpg", "images/01.jpg", "images/02.jpg"]
    for name, image in zip(names, IMAGES):
        pixels = read_image(made.folder / "rknn" / name)
        assert pixels.shape == (64, 64, 3)  # the float model's input, in RGB
        assert np.abs(pixels.astype(int) - image.image[0, 0]).max() <= 2  # JPEG's loss
        assert f"rknn/{name}" in made.files
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["rknn"]["images"] == ["0.png (id 0)", "128.png (id 128)", "255.png (id 255)"]
    assert "not run here" in manifest["rknn"]["quantised_by"]


def test_convert_py_asks_the_toolkit_for_the_right_things(made, tmp_path):
    (tmp_path / "rknn").mkdir()
    (tmp_path / "rknn/__init__.py").touch()
    (tmp_path / "rknn/api.py").write_text(TOOLKIT)
    command = [sys.executable, str(made.folder / "rknn/convert.py"), "out.rknn"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    config, load, build, export = json.loads(done.stdout)
    assert config[0] == "config" and config[2]["reorder_channel"] == "0 1 2"
    assert config[2]["target_platform"] == ["rv1126"]
    # The network divides pixels by 255 and has no other mean or deviation (infer_cfg.yml).
    assert (config[2]["mean_values"], config[2]["std_values"]) == ([[0, 0, 0]], [[255, 255, 255]])
    assert load == ["load_onnx", [], {"model": "model_fp32.onnx"}]
    assert build == ["build", [], {"do_quantization": True, "dataset": "dataset.txt"}]
    assert export == ["export_rknn", [str(tmp_path / "out.rknn")], {}]


def test_mean_and_deviation_make_the_same_input():
    config = replace(CONFIG, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    text = script(config, "rk1808")
    assert "MEAN = [123.675, 116.28, 103.53]" in text and "STD = [58.395, 57.12, 57.375]" in text
    given = normalisation(config)["pixels_0_255"]
    pixel = np.array([10.0, 100.0, 250.0])
    by_toolkit = (pixel - given["mean"]) / given["std"]
    np.testing.assert_allclose(by_toolkit, (pixel / 255 - config.mean) / config.std, rtol=1e-12)


def test_without_a_float_model_or_images_it_is_left_out_and_said(small, fp32, opt, tmp_path, caplog):
    for models, images, said in (
        (Models(small), IMAGES, "there is no float model"),
        (Models(small, fp32), (), "there are no calibration images"),
    ):
        caplog.clear()
        with caplog.at_level("INFO", "picoquant"):
            result = package(models, load_target("rk1808"), tmp_path, opt, calibration=images)
        assert f"left out rknn/, for rknn-toolkit: {said}" in caplog.text
        manifest = json.loads((result.folder / "manifest.json").read_text())
        assert manifest["rknn"]["left_out"].startswith(said)
        assert not any(name.startswith("rknn/") for name in result.files)


def test_proportions_are_kept_where_the_network_keeps_them(tmp_path):
    from picoquant.packaging.rknn import _write_images

    _write_images(tmp_path, IMAGES[:1], replace(CONFIG, keep_ratio=True))
    pixels = cv2.imread(str(tmp_path / "images/00.jpg"))
    assert pixels.shape == (32, 32, 3)
    assert pixels[:16].mean() > 60 and pixels[24:].max() < 20  # 48x80 becomes 19x32, the rest is black


@pytest.mark.parametrize(
    ("fill", "place", "colour"),
    [((10.0, 200.0, 90.4), "centre", (10, 200, 90)), (None, "start", (124, 116, 104))],  # the mean's, rounded
)
def test_padding_has_its_colour_and_place(tmp_path, fill, place, colour):
    from picoquant.packaging.rknn import _write_images

    config = replace(CONFIG, mean=(0.485, 0.456, 0.406), keep_ratio=True, padding=place, fill=fill)
    _write_images(tmp_path, IMAGES[:1], config)
    pixels = cv2.cvtColor(cv2.imread(str(tmp_path / "images/00.jpg")), cv2.COLOR_BGR2RGB)
    # 48x80 becomes 19x32: 13 rows are left over, 6 or all of them above; JPEG blurs what is near the image.
    above = pixels[: 3 if place == "centre" else 7]
    assert np.abs(above.astype(int).mean(axis=(0, 1)) - colour).max() < 8
