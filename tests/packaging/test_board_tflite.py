"""The board's program with TensorFlow Lite's C API: a package's sample, a delegate, and what it refuses.

`TFLITE_DIR` names a folder with `include/tensorflow/lite/c/c_api.h` and `lib/libtensorflowlite_c.so`; docs/tflite.md
says where a built one is to be had.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from picoquant.backends.base import Machine, load_backend
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from picoquant.packaging.package import Models, package
from picoquant.targets.profiles import load_target
from tests.packaging.board import blocks, build, read_arrays

HERE = Path(__file__).parent
BOARD = HERE.parents[1] / "picoquant" / "packaging" / "board"

# A delegate that takes no operator, and one that there is no NPU for.
DELEGATE = """
#include <tensorflow/lite/c/common.h>
#include <cstdio>
static TfLiteStatus prepare(TfLiteContext*, TfLiteDelegate*) {
  std::fputs("delegate: prepared\\n", stderr);
  return kTfLiteOk;
}
extern "C" TfLiteDelegate* tflite_plugin_create_delegate(char**, char**, size_t, void (*report)(const char*)) {
#ifdef WITHOUT_NPU
  report("no NPU found");
  return nullptr;
#else
  (void)report;
  TfLiteDelegate* made = new TfLiteDelegate(TfLiteDelegateCreate());
  made->Prepare = prepare;
  return made;
#endif
}
extern "C" void tflite_plugin_destroy_delegate(TfLiteDelegate* made) {
  std::fputs("delegate: destroyed\\n", stderr);
  delete made;
}
"""


def test_it_compiles():
    if not shutil.which("c++"):
        pytest.skip("a C++ compiler is not installed")
    source, stub = BOARD / "src" / "network_tflite.cpp", HERE / "tflite_stub"
    command = ["c++", "-std=c++11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{stub}", source]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_folder_without_the_library_is_refused(tmp_path):
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    command = ["cmake", "-S", BOARD, "-B", tmp_path / "build", f"-DTFLITE_DIR={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "holds no include/tensorflow/lite/c/c_api.h and" in done.stderr


@pytest.fixture(scope="module")
def library():
    """The folder with TensorFlow Lite."""
    folder = Path(os.environ.get("TFLITE_DIR", "/nowhere"))
    if not (folder / "include/tensorflow/lite/c/c_api.h").is_file():
        pytest.skip("TensorFlow Lite's C API is not installed: TFLITE_DIR names no folder with it")
    return folder


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    try:
        load_backend("ethos-u").toolchain.find(Machine())
    except ToolError as error:
        pytest.skip(str(error))
    return package(
        Models(models()), load_target("imx93"), tmp_path_factory.mktemp("package"), sample=blocks()
    )


@pytest.fixture(scope="module")
def program(library, made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("build")
    return build(made.folder / "board", folder, f"-DTFLITE_DIR={library}", "-DUSE_OPENCV=OFF")


def ran(program, folder, *options, **variables):
    sample = ("--image", folder / "sample/image.ppm", "--runs", 1)
    command = [program, "--package", folder, *sample, *options]
    environment = {"PATH": "/usr/bin:/bin", **variables}
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment, timeout=120
    )


@pytest.mark.slow  # a build of the whole program
def test_the_package_runs_as_expected(program, made, tmp_path):
    done = ran(program, made.folder, "--expected", made.folder / "sample/expected.json")
    said = json.loads(done.stdout)
    assert said["runtime"].startswith("TensorFlow Lite 2.") and said["model"] == "model_int8.tflite"
    assert said["comparison"]["as_expected"] and done.returncode == 0
    more = json.loads((made.folder / "sample/expected.json").read_text())
    more["detections"].append({"class": 0, "label": "one", "score": 0.9, "box": [0, 0, 20, 20]})
    (tmp_path / "more.json").write_text(json.dumps(more))
    assert ran(program, made.folder, "--expected", tmp_path / "more.json").returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("tflite", 1e-2), ("tflite-16x8", 1e-5)])
def test_its_integers_are_litert_s(name, least, program, models, made, tmp_path):
    """Of the same file in LiteRT's own kernels, which are some years younger: but for what rounding tells apart."""
    backend, tool = load_backend(name), load_backend(name).toolchain.find(Machine())
    folder = shutil.copytree(made.folder, tmp_path / "package")
    file = backend.make(Source(models()), folder / "model_int8", tool)
    kept = {"save_input": tmp_path / "in", "save_outputs": tmp_path / "out"}
    done = ran(program, folder, "--save-input", kept["save_input"], "--save-outputs", kept["save_outputs"])
    assert done.returncode == 0, done.stderr
    (image,) = read_arrays(kept["save_input"])
    plain = load_backend("tflite-no-xnnpack")
    with plain.runtime.open_files(file, tool, plain.on(Machine(1))) as predict:
        expected = predict({predict.input_names[0]: image})
    found = read_arrays(kept["save_outputs"])
    assert [one.shape for one in found] == [one.shape for one in expected]
    one, two = (np.concatenate([value.ravel() for value in values]) for values in (expected, found))
    noise = np.square(one - two).sum() / np.square(one - one.mean()).sum()
    assert noise < least


@pytest.mark.slow
def test_a_delegate_is_asked_and_what_is_none_is_refused(program, library, made, tmp_path):
    (tmp_path / "delegate.cpp").write_text(DELEGATE)
    common = ["c++", "-shared", "-fPIC", "-std=c++17", f"-I{library / 'include'}", tmp_path / "delegate.cpp"]
    common += [f"-L{library / 'lib'}", "-ltensorflowlite_c", f"-Wl,-rpath,{library / 'lib'}"]
    for name, more in (("works", []), ("none", ["-DWITHOUT_NPU"])):
        command = [*common, *more, "-o", tmp_path / f"lib{name}.so"]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    done = ran(program, made.folder, TFLITE_DELEGATE=str(tmp_path / "libworks.so"))
    assert done.returncode == 0 and done.stderr == "delegate: prepared\ndelegate: destroyed\n", done.stderr
    assert json.loads(done.stdout)["runtime"].endswith(f" by {tmp_path}/libworks.so")
    for file, said in (
        ("libnone.so", "gives no delegate: no NPU found"),
        ("libgone.so", "libgone.so: cannot open shared object file"),
    ):
        done = ran(program, made.folder, TFLITE_DELEGATE=str(tmp_path / file))
        assert done.returncode == 2 and done.stderr.startswith("detect: TFLITE_DELEGATE: "), done.stderr
        assert said in done.stderr and done.stderr.count("\n") == 1
    done = ran(program, made.folder, TFLITE_DELEGATE=str(library / "lib/libtensorflowlite_c.so"))
    assert done.returncode == 2 and "is no delegate (it has no tflite_plugin_create_delegate)" in done.stderr


@pytest.mark.slow
def test_files_that_do_not_fit_are_refused_in_one_line(program, made, tmp_path):
    def refused(*options):
        done = ran(program, folder, *options)
        assert done.returncode == 2, done.stderr
        return done.stderr.splitlines()[-1]  # TensorFlow Lite's own line may stand before it

    folder = shutil.copytree(made.folder, tmp_path / "package")
    vela = refused("--model", "ethos-u")  # an operator that only the NPU has
    assert "did not open" in vela and "ethos-u" in vela.split("did not open", 1)[1]
    assert "it has int8, ethos-u" in refused("--model", "fp32")
    settings = json.loads((folder / "settings.json").read_text())
    for changed, said in (
        ({"size": [32, 64]}, "takes images of another size than settings.json"),
        ({"models": [{"precision": "int8", "file": "model_int8.onnx", "sha256": "0"}]}, "is no .tflite"),
        ({"inputs": ["image", "scale_factor"]}, "takes another number of inputs"),
    ):
        (folder / "settings.json").write_text(json.dumps({**settings, **changed}))
        assert said in refused()
    (folder / "settings.json").write_text(json.dumps(settings))
    whole = (folder / "model_int8.tflite").read_bytes()
    for content in (whole[: len(whole) // 2], b"no model", b""):
        (folder / "model_int8.tflite").write_bytes(content)
        assert refused().endswith("model_int8.tflite: it is no whole .tflite")
    (folder / "model_int8.tflite").unlink()
    assert "cannot be read" in refused()
