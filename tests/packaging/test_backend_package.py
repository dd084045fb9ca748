"""A package for a runtime: files, programs in Python and C++, and a profile that names a backend."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from picoquant.backends.table import BACKENDS
from picoquant.errors import ConfigError, UserError
from picoquant.packaging import expectation
from picoquant.packaging.forms import files_in, forms_of
from picoquant.packaging.package import Models, package
from picoquant.packaging.verify import verify
from picoquant.postprocess import Detections
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


@pytest.mark.slow
def test_the_program_runs(made, tmp_path):
    """Against the headers and libraries of OpenVINO's Python package."""
    openvino = pytest.importorskip("openvino")
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    config = Path(openvino.__file__).parent / "cmake"
    options = ("-DUSE_OPENVINO=ON", f"-DOpenVINO_DIR={config}")
    program = build(made.folder / "board", tmp_path / "build", *options)
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
