"""Packages of the targets `ncnn` and `mnn`: files, verification, programs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from picoquant.backends.table import BACKENDS
from picoquant.packaging.package import Models, package
from picoquant.packaging.verify import verify
from picoquant.targets.profiles import load_target
from tests.packaging.board import blocks, build

FILES = {"ncnn": {"model.param", "model.bin"}, "mnn": {"model.mnn"}}


@pytest.fixture(scope="module", params=FILES)
def made(request, small, tmp_path_factory):
    pytest.importorskip({"mnn": "MNN"}.get(request.param, request.param))
    folder = tmp_path_factory.mktemp(request.param)
    return package(Models(small), load_target(request.param), folder, sample=blocks())


def test_it_is_verified_in_its_runtime_and_its_script_runs_alone(made, tmp_path):
    name = made.folder.name
    assert FILES[name] | {"python/detect.py", "python/network.py", "settings.json"} < set(made.files)
    assert ("board/src/network_ncnn.cpp" in made.files) == (name == "ncnn")
    text = (made.folder / "README.md").read_text()
    assert ("-DUSE_NCNN=ON" in text) == (name == "ncnn") and "python/detect.py" in text
    known = {key: folder for key, folder in BACKENDS.items() if key in ("paddle", name)}
    (check,) = (check for check in verify(made.folder, known=known).checks if check.name == name)
    assert check.holds and check.said == ("7 detections as expected",)
    copy = shutil.copytree(made.folder, tmp_path / "package")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(copy / "python/detect.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "as expected"), done.stderr


@pytest.mark.slow
def test_the_program_runs(small, tmp_path):
    """With ncnn's library as Debian's libncnn-dev installs it, or where `ncnn_DIR` says."""
    pytest.importorskip("ncnn")
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    words = ("cmake", "--find-package", "-DNAME=ncnn", "-DCOMPILER_ID=GNU", "-DLANGUAGE=CXX", "-DMODE=EXIST")
    if "ncnn_DIR" not in os.environ and subprocess.run(words, capture_output=True, cwd=tmp_path).returncode:
        pytest.skip(
            "ncnn's library is not installed (Debian: libncnn-dev), and ncnn_DIR does not say where it is"
        )
    made = package(Models(small), load_target("ncnn"), tmp_path, sample=blocks())
    program = build(made.folder / "board", tmp_path / "build", "-DUSE_NCNN=ON", "-DUSE_OPENCV=OFF")
    environment = {"PROGRAM": str(program), "CACHE": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"}
    command = ["sh", str(made.folder / "board/run.sh")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["runtime"].startswith("ncnn ") and said["comparison"]["as_expected"]
    broken = shutil.copytree(made.folder, tmp_path / "broken")
    (broken / "model.param").write_text("no model")
    done = subprocess.run([program, "--package", broken], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "detect: ncnn did not open" in done.stderr
    (broken / "model.param").unlink()
    done = subprocess.run([program, "--package", broken], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.strip().endswith("model.param cannot be read")
