"""A package for a runtime: files, programs in Python and C++, and a profile that names a backend."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from picoquant.backends.table import BACKENDS
from picoquant.errors import ConfigError, UserError
from picoquant.packaging import expectation
from picoquant.packaging.forms import files_in, forms_of
from picoquant.packaging.package import Models, package
from picoquant.packaging.sample import SampleImage, read_ppm
from picoquant.packaging.verify import verify
from picoquant.paddle_program.infer_config import write_infer_config
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.paddle_program.program import program_facts
from picoquant.postprocess import Decoder, Detections
from picoquant.targets.profiles import load_target
from tests.command_line import picoquant
from tests.networks.small_int8 import write_small
from tests.packaging import videos
from tests.packaging.board import blocks, build

TARGET = load_target("openvino")


@pytest.fixture(scope="module")
def made(small, tmp_path_factory):
    pytest.importorskip("openvino")
    return package(Models(small), TARGET, tmp_path_factory.mktemp("package"), sample=blocks())


def test_files_manifest_and_readme(made):
    wanted = {
        "model.xml",
        "model.bin",
        "python/detect.py",
        "python/network.py",
        "board/run.sh",
        "settings.json",
    }
    assert wanted | {"board/src/network_openvino.cpp", "model_int8.onnx", "model_qdq.onnx"} < set(made.files)
    assert {"model.xml", "model.bin"} < set(made.bytes)
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["target"]["backends"] == ["openvino"] and manifest["versions"]["openvino"]
    settings = json.loads((made.folder / "settings.json").read_text())
    assert settings["models"] == [
        {"precision": "int8", "file": "model.xml", "sha256": manifest["files"]["model.xml"]["sha256"]}
    ]
    text = (made.folder / "README.md").read_text()
    for said in ("`model.xml`, `model.bin` | INT8 for OpenVINO", "python/detect.py", "-DUSE_OPENVINO=ON"):
        assert said in text
    assert set(files_in(made.folder)) == {"onnx", "openvino"}


def test_two_are_the_same_bytes(made, small, tmp_path):
    again = package(Models(small), TARGET, tmp_path, sample=blocks())
    assert again.archive.read_bytes() == made.archive.read_bytes()


def test_it_is_verified_in_its_runtime(made, tmp_path):
    known = {name: folder for name, folder in BACKENDS.items() if name in ("paddle", "openvino")}
    checks = {check.name: check for check in verify(made.folder, known=known).checks}
    assert checks["openvino"].holds and checks["openvino"].said == ("7 detections as expected",)
    copy = shutil.copytree(made.folder, tmp_path / "package")
    manifest = json.loads((copy / "manifest.json").read_text())
    for name in ("model.xml", "model.bin"):
        (copy / name).unlink()
        del manifest["files"][name]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    checks = {check.name: check for check in verify(copy, known=known).checks}
    assert checks["openvino"].holds is None
    assert checks["openvino"].said == ("the package has no model.xml",)
    manifest["target"]["backends"] = "openvino"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="does not say whose files the package holds"):
        verify(copy, known=known)


def test_the_script_runs_without_picoquant(made, tmp_path):
    copy = shutil.copytree(made.folder, tmp_path / "package")

    def run(*words):
        command = [sys.executable, str(copy / "python/detect.py"), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)

    done = run()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "as expected"), done.stderr
    assert "picoquant" not in (copy / "python/detect.py").read_text().replace("nothing of picoquant", "")
    done = run(copy / "sample/image.png")
    assert done.returncode == 0 and any(line.startswith("red cell 0.") for line in done.stdout.splitlines())
    done = run(copy / "labels.txt")
    assert done.returncode == 1 and done.stderr.strip() == f"detect.py: {copy / 'labels.txt'} is no image"
    expected = json.loads((copy / "sample/expected.json").read_text())
    expected["detections"][0]["class"] = 2 - expected["detections"][0]["class"]
    best = max(expected["detections"], key=lambda row: row["score"])
    best["box"] = [side + 100 for side in best["box"]]
    (copy / "sample/expected.json").write_text(json.dumps(expected))
    done = run()
    assert done.returncode == 1 and done.stdout.splitlines()[-1].startswith("not found: [")


@pytest.fixture(scope="module")
def program(made, tmp_path_factory):
    """Against the headers and libraries of OpenVINO's Python package."""
    openvino = pytest.importorskip("openvino")
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    config = Path(openvino.__file__).parent / "cmake"
    options = ("-DUSE_OPENVINO=ON", f"-DOpenVINO_DIR={config}")
    return build(made.folder / "board", tmp_path_factory.mktemp("build"), *options)


@pytest.fixture(scope="module")
def letterboxed(small, tmp_path_factory):
    """A package of a network whose images keep their ratio, with an upright sample of 51x32 that becomes 32x20."""
    pytest.importorskip("openvino")
    model = shutil.copytree(small.path, tmp_path_factory.mktemp("model") / "model")
    # 51 * 32 / 51 is 32, 32 * 32 / 51 is 20.08; 12 columns are left over, 6 of them on the left.
    config = replace(small.config, interp=1, keep_ratio=True, padding="centre", fill=(114.0, 90.0, 3.0))
    write_infer_config(config, model)
    levels = np.random.default_rng(2).integers(0, 256, (4, 4, 3))
    image = np.kron(levels, np.ones((13, 8, 1)))[:51].astype(np.uint8)
    folder = tmp_path_factory.mktemp("letterboxed")
    return package(Models(ModelFolder.open(model)), TARGET, folder, sample=SampleImage(image, "upright"))


@pytest.fixture(scope="module")
def in_the_letterbox(letterboxed):
    """What the package's OpenVINO model finds in the sample, prepared and decoded here."""
    folder = letterboxed.folder
    spec = importlib.util.spec_from_file_location("network_of_package", folder / "python/network.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = ModelFolder.open(folder / "paddle")
    feed = feed_of_image(read_ppm(folder / "sample/image.ppm"), model.config)
    outputs = module.Network(folder / "model.xml")({"image": feed["image"]})
    assert feed["pad_offset"].tolist() == [[0, 6]]
    decoder = Decoder.of(*zip(*program_facts(model.model).outputs), model.config)
    found = decoder.decode(outputs, feed["scale_factor"], feed["pad_offset"])[0]
    assert (found.scores >= 0.3).sum() >= 3
    order = np.argsort(-found.scores, kind="stable")
    return [(int(found.classes[at]), float(found.scores[at]), found.boxes[at]) for at in order]


def test_a_letterbox_comes_back_in_the_script(letterboxed, in_the_letterbox):
    folder = letterboxed.folder
    command = [sys.executable, str(folder / "python/detect.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    *lines, last = done.stdout.splitlines()
    assert (done.returncode, last) == (0, "as expected"), done.stdout + done.stderr
    wanted = [row for row in in_the_letterbox if row[1] >= 0.3]
    assert len(lines) == len(wanted)
    for line, (_, score, box) in zip(lines, wanted):
        before, after = line.split(" [")
        assert float(before.split()[-1]) == pytest.approx(score, abs=2e-3)
        assert np.allclose([float(side) for side in after[:-1].split(", ")], box, atol=0.2), line
    described = yaml.safe_load((folder / "preprocess.yml").read_text())["resize"]["letterbox"]
    assert described["padding"] == "centre"
    assert np.allclose(described["value_after_normalization"], [114 / 255, 90 / 255, 3 / 255])
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["keep_ratio"] and settings["padding"] == "centre"
    assert verify(folder, known={name: BACKENDS[name] for name in ("paddle", "openvino")}).holds


@pytest.mark.slow
def test_a_letterbox_comes_back_in_the_program(letterboxed, in_the_letterbox, program, tmp_path):
    command = [program, "--package", letterboxed.folder, "--runs", "1", "--min-score", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = sorted(json.loads(done.stdout)["detections"], key=lambda row: -row["score"])
    wanted = [row for row in in_the_letterbox if row[1] >= 0.1]
    assert [row["class"] for row in found] == [row[0] for row in wanted]
    # Its linear resize rounds once less than OpenCV's, so that a pixel may be one level off.
    assert np.allclose([row["score"] for row in found], [row[1] for row in wanted], atol=5e-3)
    assert np.allclose([row["box"] for row in found], [row[2] for row in wanted], atol=1.0)


@pytest.mark.slow
def test_the_program_runs(made, program, tmp_path):
    environment = {"PROGRAM": str(program), "CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}
    command = ["sh", str(made.folder / "board/run.sh")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["runtime"].startswith("OpenVINO ") and said["comparison"]["as_expected"]
    compare_on_a_video(program, made.folder, tmp_path)
    broken = shutil.copytree(made.folder, tmp_path / "broken")
    (broken / "model.xml").write_text("<net")
    done = subprocess.run([program, "--package", broken], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "detect: OpenVINO did not open" in done.stderr
    (broken / "model.xml").unlink()
    done = subprocess.run([program, "--package", broken], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.strip().endswith("model.xml cannot be read")


def compare_on_a_video(program, folder, scratch):
    """The program's loop on a video finds what `picoquant predict` finds in it, as near as a package's sample."""
    image = np.kron(blocks().image[::8, ::8], np.ones((16, 16, 1))).astype(np.uint8)
    frames = [image, image[::-1], image[:, ::-1], image]
    clip = videos.y4m(scratch / "clip.y4m", frames)
    avi = scratch / "clip.avi"
    avi.write_bytes(videos.avi([videos.jpeg(one, 100) for one in frames], b"MJPG", 64, 64))
    found = {}
    for path in (clip, avi):
        command = [program, "--package", folder, "--source", path, "--draw", scratch / "drawn.y4m"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
        if path == avi and "without a JPEG decoder" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        *rows, last = (json.loads(line) for line in done.stdout.splitlines())
        assert last["summary"]["frames"] == 4 and last["summary"]["milliseconds"]["network"] > 0
        found[path] = rows
    options = ("--model", folder, "--backend", "openvino", "--no-images", "--threshold", 0.3, "--json")
    done = picoquant("predict", avi, *options, "--out", scratch / "out")
    assert done.returncode == 0, done.stderr
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(one["score"] >= 0.5 for row in expected for one in row["detections"]) > 8
    labels = (folder / "labels.txt").read_text().splitlines()
    for rows in found.values():
        assert len(rows) == len(expected)
        for row, wanted in zip(rows, expected):
            assert (row["frame"], row["width"], row["height"]) == (wanted["frame"], 64, 64)
            said = expectation.differences(
                detections(wanted), detections(row), expectation.Tolerance(), labels
            )
            assert said == []


def detections(row):
    """A line of JSON as `Detections`."""
    found = row["detections"]
    classes, scores = [one["class"] for one in found], [one["score"] for one in found]
    boxes = np.array([one["box"] for one in found], np.float32).reshape(-1, 4)
    return Detections(np.array(classes, int), np.array(scores, np.float32), boxes)


def test_a_profile_that_names_no_backend_with_files_is_refused():
    for name in ("openvin", "paddle", "onnx", "lite"):
        with pytest.raises(ConfigError) as error:
            forms_of(replace(TARGET, backends=(name,)))
        assert str(error.value).startswith(
            f"openvino: backends: no backend '{name}' writes files for packages; "
        )
        assert "openvino" in str(error.value).split("possible: ")[1].split(", ")


def test_a_float_model_alone_is_refused(tmp_path):
    pytest.importorskip("openvino")
    fp32 = write_small(tmp_path / "fp32", quantised=False)
    with pytest.raises(UserError, match="openvino takes INT8 models only"):
        package(Models(None, fp32), TARGET, tmp_path / "out")
