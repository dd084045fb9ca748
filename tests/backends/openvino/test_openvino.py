"""What is OpenVINO's own beside the template of all backends: the same integers as ONNX Runtime, nothing sent."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from picoquant.backends.base import Machine, load_backend
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.qdq import make_onnx
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.openvino.errors import reason
from picoquant.backends.openvino.instructions import adds_exactly
from picoquant.backends.openvino.runtime import properties
from picoquant.backends.python_package import find_package
from picoquant.backends.source import Source
from picoquant.errors import ToolError

OPENVINO = load_backend("openvino")


@pytest.fixture(scope="module")
def tool():
    return pytest.importorskip("openvino") and OPENVINO.toolchain.find(Machine())


@pytest.mark.parametrize("config", ["picodet_s_416_coco_npu.yml", "picodet_xs_320_coco_lcnet.yml"])
def test_it_gives_the_integers_of_onnx_runtime(models, config, tool, tmp_path):
    """To the bit where no result lies on the middle between two levels; there each rounds as it likes, by one level.

    Random weights, without scales that keep results from the middle: XS has some there, in its hard-swish.
    """
    source = Source(models(config))
    made = OPENVINO.export.export(source, tmp_path / "model", tool)
    assert [path.name for path in made.files] == ["model.xml", "model.bin"]
    write_onnx(make_onnx(source.network), tmp_path / "model.onnx")
    feed = {"image": np.random.default_rng(0).random((3, 3, 64, 64), np.float32)}
    with OPENVINO.runtime.open_files(made, tool, Machine(1)) as predict:
        assert predict.inputs == (("image", (1, 3, 64, 64)),)
        found = predict(feed)
        first = predict({"image": feed["image"][:1]})
        predict({"image": feed["image"][1:2]})
        for one, two in zip(first, found):  # the next call did not write into them
            np.testing.assert_array_equal(one, two[:1])
    expected = OnnxPredictor(tmp_path / "model.onnx", threads=1)(feed)
    assert [name for name, _ in made.outputs] == [name for name, _ in source.facts.outputs]
    for one, two in zip(expected, found):
        if "npu" in config and adds_exactly():  # in float a sum on the middle may fall to either side
            np.testing.assert_array_equal(two, one)
        assert 10 * np.log10((one**2).sum() / max(((one - two) ** 2).sum(), 1e-30)) > 30  # 35.7 is the least


def test_threads_and_precision_are_said_to_it():
    assert properties()["INFERENCE_PRECISION_HINT"] == "f32" and "INFERENCE_NUM_THREADS" not in properties()
    assert properties(3)["INFERENCE_NUM_THREADS"] == 3
    assert "LP_TRANSFORMS_MODE" not in properties()
    assert properties(exact=False)["LP_TRANSFORMS_MODE"] == "NO"


@pytest.mark.parametrize(
    ("flags", "limit", "exact"),
    [
        ("fma avx2 avx512_vnni", "", True),
        ("fma avx2 avx_vnni", "AVX2_VNNI", True),
        ("fma avx2 avx512f", "", False),
        ("fma avx2 avx512_vnni", "AVX2", False),
        ("fma avx2 avx512_vnni", "avx512_core", False),
    ],
)
def test_where_int8_is_added_exactly(tmp_path, flags, limit, exact):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\n\nprocessor : 1\nflags\t\t: {flags}\n")
    assert adds_exactly({"ONEDNN_MAX_CPU_ISA": limit} if limit else {}, cpuinfo) is exact
    assert not adds_exactly({}, tmp_path / "gone")


WITHOUT = """
import sys
from pathlib import Path
import numpy as np
import picoquant
from picoquant.backends.openvino.runtime import OpenvinoPredictor
image = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
np.savez(sys.argv[2], *OpenvinoPredictor(Path(sys.argv[1]), 1)({"image": image}))
"""


def test_without_vnni_it_computes_the_same(models, tool, tmp_path):
    """With INT8 kernels that saturate more than half of the values were others."""
    made = OPENVINO.export.export(Source(models()), tmp_path / "model", tool)
    found = []
    for limit in ("AVX2", "DEFAULT"):
        command = [sys.executable, "-c", WITHOUT, made.files[0], tmp_path / f"{limit}.npz"]
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit}
        subprocess.run([str(part) for part in command], env=environment, check=True, timeout=120)
        with np.load(tmp_path / f"{limit}.npz") as arrays:
            found.append([arrays[name] for name in arrays.files])
    for one, two in zip(*found):
        np.testing.assert_array_equal(one, two)


CODE = """
import sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("NETWORK", event, arguments[1:])

sys.addaudithook(hook)
from picoquant.backends.openvino.quiet import import_openvino
print(import_openvino().Core().available_devices[:1], "openvino_telemetry" in sys.modules)
"""


def test_nothing_is_sent_when_it_is_imported(tool, tmp_path):
    """Its package sends an event at its import, to which it would find no way here: the hook sees the attempt."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['CPU'] False", done.stdout + done.stderr


def test_another_version_is_refused_with_what_to_install():
    with pytest.raises(ToolError) as error:
        find_package("numpy", ("numpy",), ">=90,<91")
    assert str(error.value) == (
        f"numpy {np.__version__} is installed, picoquant takes >=90,<91: "
        f"{sys.executable} -m pip install 'numpy>=90,<91'"
    )
    assert find_package("numpy", ("numpy",), ">=1.23,<3").version == np.__version__


def test_of_its_exceptions_the_line_that_says_what_is_wrong_is_taken():
    said = "Exception from src/core/runtime.cpp:12:\nCheck 'x != 0' failed at src/plugin.cpp:3:\nUnable to read it\n"
    assert reason(RuntimeError(said)) == "Unable to read it"
    assert reason(RuntimeError("")) == "RuntimeError"
    assert reason(RuntimeError("Exception from src/core.cpp:1:")) == "Exception from src/core.cpp:1:"
