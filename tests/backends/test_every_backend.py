"""What holds for every backend, the example in `example/` with them: the template that a new one is tested by."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import picoquant
from picoquant.backends import base
from picoquant.backends.base import Machine, load_backend, load_backends
from picoquant.backends.scheme import Scheme
from picoquant.backends.source import Source
from picoquant.backends.table import BACKENDS, COMPILERS, REFERENCE
from picoquant.commands import doctor
from picoquant.commands.compare_runtimes import evaluate_backends
from picoquant.commands.parity_ladder import evaluate_ladder
from picoquant.errors import ToolError, UserError
from picoquant.int8.quant_params import QuantParams
from picoquant.packaging.package import Models, package
from picoquant.packaging.verify import verify
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.postprocess import NmsSettings
from picoquant.runtimes.backends import absence, check_backends, opened
from picoquant.runtimes.benchmark import benchmark
from picoquant.runtimes.model import Model, model_of_folder
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported, quick_int8
from tests.networks.small_int8 import write_small

# Adding a backend: a folder, and a line in (a copy of) the table.
KNOWN = {**BACKENDS, "numpy": "tests.backends.example"}
_OTHERS = (
    "lite", "tflite", "tflite-no-xnnpack", "tflite-16x8", "ethos-u", "rknn", "tpu-mlir", "esp-ppq",
)  # fmt: skip
WITHOUT_LITE = {name: folder for name, folder in KNOWN.items() if name not in _OTHERS}
FACES = {
    "toolchain": base.Toolchain.find,
    "export": base.Export.export,
    "runtime": base.Runtime.open_files,
    "report": base.Report.report,
}
NMS = NmsSettings(score_threshold=0.05, nms_threshold=0.5, nms_top_k=100, keep_top_k=20)
SCALE = np.ones((2, 2), np.float32)
FLOAT = (
    120  # least signal to noise of a float model's raw outputs against the reference's, dB; of INT8 `parity`
)


@pytest.fixture(params=KNOWN)
def backend(request):
    """One of all, where its tool is here."""
    found = load_backend(request.param, KNOWN)
    absent = absence(found, Machine())
    if absent:
        pytest.skip(absent)
    return found


@pytest.fixture(scope="module")
def image():
    return {"image": np.random.default_rng(0).random((2, 3, 32, 32), np.float32)}


@pytest.fixture(scope="module")
def small_models(small, tmp_path_factory):
    folders = {"int8": small, "fp32": write_small(tmp_path_factory.mktemp("float"), quantised=False)}
    return {precision: model_of_folder(folder, "small") for precision, folder in folders.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An INT8 network all of whose tensors have ranges, where one is needed: some backends run nothing in float."""

    @cache
    def made():
        folder = tmp_path_factory.mktemp("whole")
        fp32 = exported("picodet_s_416_coco_npu.yml", folder / "fp32", size=32)
        return model_of_folder(quick_int8(fp32, folder / "int8"), "whole")

    return made


@pytest.fixture(scope="module")
def model_for(small_models, whole):
    """The model that a backend is tested with, by precision."""
    return lambda backend, precision: (
        whole() if precision == "int8" and backend.scheme.every_tensor else small_models[precision]
    )


@pytest.fixture(scope="module")
def expected(image):
    """Outputs and detections of the reference for a model, computed once."""
    found: dict = {}

    def of(model):
        key = model.folder.path
        if key not in found:
            with opened(model, load_backend(REFERENCE), Machine(1), NMS) as ready:
                outputs = ready.predict(image)
                found[key] = outputs, ready.decoder.decode(outputs, SCALE)
        return found[key]

    return of


def decibels(signal, other) -> float:
    noise = np.square(signal.astype(np.float64) - other).sum()
    return 10 * np.log10(np.square(signal.astype(np.float64)).sum() / max(noise, 1e-30))


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_it_computes_what_the_reference_computes(backend, precision, model_for, image, expected):
    model = model_for(backend, precision)
    if precision not in backend.precisions:
        with pytest.raises(ToolError, match=f"which {backend.name} does not run"):
            opened(model, backend).__enter__()
        return
    outputs, detections = expected(model)
    with opened(model, backend, Machine(1), NMS) as ready:
        found = ready.predict(image)
        first = ready.predict({name: value[:1] for name, value in image.items()})
        decoded = ready.decoder.decode(found, SCALE)
    assert ready.name == f"{backend.name}_{precision}".replace("-", "_") and ready.bytes > 1000
    least = FLOAT if precision == "fp32" else backend.parity
    assert bool(ready.note) == (precision == "int8" and not backend.integers)
    for one, two, alone in zip(outputs, found, first):
        assert one.shape == two.shape
        # One cell of random weights with every tensor rounded says nothing by itself: all outputs together do.
        assert backend.scheme.every_tensor or decibels(one, two) > least
        np.testing.assert_allclose(two[:1], alone, rtol=1e-5, atol=1e-5 * np.abs(one).max())
    together = [np.concatenate([value.ravel() for value in values]) for values in (outputs, found)]
    assert decibels(*together) > least
    for one, two in zip(detections, decoded):
        if backend.scheme.every_tensor:
            continue  # a network of random weights, whose scores say nothing
        assert len(one) >= 10
        if precision == "fp32" or backend.integers:
            assert one.classes.tolist() == two.classes.tolist()
            np.testing.assert_allclose(one.scores, two.scores, atol=1e-4)
            np.testing.assert_allclose(one.boxes, two.boxes, atol=0.01)


def refused(work) -> str:
    """The one line that the user reads."""
    with pytest.raises(UserError) as error:
        work()
    line = str(error.value)
    assert line and "\n" not in line
    return line


def test_a_network_outside_of_its_scheme_is_refused_in_one_line(backend, small_models):
    """The scheme is asked before the tool is."""
    if backend.export is None:
        assert backend.family == REFERENCE
        return

    def use():
        with opened(small_models["int8"], replace(backend, scheme=Scheme(weight_bits=(4,)))):
            pass

    assert refused(use).startswith(f"{backend.name} cannot hold small: weight ")


def test_tensors_without_ranges_are_in_float_or_refused_in_one_line(backend, small_models):
    """The small network has no range behind its convolutions."""
    if backend.scheme.every_tensor:
        said = refused(lambda: opened(small_models["int8"], backend).__enter__())
        assert said.startswith(f"{backend.name} cannot hold small: tensor ") and "has no range" in said
    elif "int8" in backend.precisions:
        with opened(small_models["int8"], backend, Machine(1)) as ready:
            assert ready.predict.outputs


def test_images_of_another_size_are_refused_or_computed_whole(backend, model_for, image):
    larger = {"image": np.zeros((1, 3, 64, 32), np.float32)}
    with opened(model_for(backend, "int8"), backend, Machine(1)) as ready:
        try:
            cells = {output.shape[1] for output in ready.predict(larger)}
        except UserError as error:
            assert str(error) and "\n" not in str(error)
        else:  # Paddle's program takes any size
            assert cells == {2 * output.shape[1] for output in ready.predict(image)}
        assert len(ready.predict(image)[0]) == 2  # it still works after that


def test_a_damaged_model_is_refused_in_one_line(backend, small, image, tmp_path):
    folder = ModelFolder.open(shutil.copytree(small.path, tmp_path / "model"))
    folder.params.write_bytes(folder.params.read_bytes()[:-100])
    model = Model("damaged", "int8", folder.config, folder)

    def use():
        with opened(model, backend, Machine(1)) as ready:
            ready.predict(image)

    assert str(tmp_path) in refused(use)


def test_damaged_files_of_its_own_are_refused_in_one_line(backend, model_for, image, tmp_path):
    if backend.export is None:
        assert backend.family == REFERENCE  # only Paddle runs the Paddle form itself
        return
    tool = backend.toolchain.find(Machine(), to_run=True)
    precision = "int8" if "int8" in backend.precisions else "fp32"
    made = backend.make(Source(model_for(backend, precision).folder), tmp_path / "model", tool)
    assert made.bytes > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in made.files)
    assert tuple(path.suffix for path in made.files) == backend.suffixes
    assert made.files == backend.files_beside(made.files[0])
    for path in made.files:
        path.write_bytes(b"no model")

    def use():
        with backend.runtime.open_files(made, tool, Machine(1)) as predict:
            predict(image)

    refused(use)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """picoquant alone, in no checkout and without any package beside it."""
    place = tmp_path_factory.mktemp("bare")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(picoquant.__file__).parent, place / "picoquant", ignore=ignore)
    shutil.copytree(Path(__file__).parent / "example", place / "example", ignore=ignore)
    return place


@pytest.mark.parametrize("name", KNOWN)
def test_an_absent_tool_is_refused_in_one_line_with_what_to_do(bare, name):
    """In a Python without packages (-S) and an environment in which nothing is found."""
    known = {**BACKENDS, "numpy": "example"}
    code = f"""
from picoquant.backends.base import Machine, load_backend
from picoquant.errors import ToolError
try:
    load_backend({name!r}, {known!r}).toolchain.find(Machine(), to_run=True)
except ToolError as error:
    print(error)
"""
    environment = {"PATH": str(bare), "HOME": str(bare), "PYTHONPATH": str(bare)}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=bare)
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert "is not installed: " in line and " install" in line


@pytest.mark.parametrize("name", KNOWN)
def test_its_faces_are_what_base_says(name):
    one = load_backend(name, KNOWN)
    assert (one.runtime is None) == (name in COMPILERS)
    assert one.toolchain.TITLE and isinstance(one.toolchain.DISTRIBUTIONS, tuple)
    files = {path.stem for path in Path(sys.modules[one.folder].__file__).parent.glob("*.py")}
    for face, described in FACES.items():
        module = getattr(one, face)
        assert (module is not None) == (face in files)
        if module is None:
            continue
        found = inspect.signature(getattr(module, described.__name__)).parameters
        wanted = list(inspect.signature(described).parameters)[1:]  # without self
        assert list(found)[: len(wanted)] == wanted
        assert all(
            found[extra].default is not inspect.Parameter.empty for extra in list(found)[len(wanted) :]
        )


def test_a_new_line_in_the_table_is_everywhere(small, run_dir, tmp_path):
    """In `eval --backend`, the parity ladder, the benchmark, `verify` and the doctor."""
    assert check_backends(["all"], KNOWN)[-1] == "numpy" and "numpy" not in check_backends(["all"])
    assert [one.name for one in load_backends(KNOWN)] == list(KNOWN)

    found = evaluate_backends(None, (), str(run_dir), ("paddle", "numpy"), limit=2, known=KNOWN)
    rows = {row.name: row.evaluation.metrics["mAP"] for row in found.rows}
    assert list(rows) == ["paddle_fp32", "numpy_fp32", "paddle_int8", "numpy_int8"]
    assert rows["numpy_fp32"] == pytest.approx(rows["paddle_fp32"], abs=0.01) and rows["numpy_fp32"] > 0.3
    assert rows["numpy_int8"] == pytest.approx(rows["paddle_int8"], abs=0.01)
    assert "numpy_int8" in found.to_text() and "numpy_int8" in found.pairs

    steps = evaluate_ladder(None, (), str(run_dir), limit=2, max_loss=1.0, known=WITHOUT_LITE).steps
    before = [one.step for one in load_backends(WITHOUT_LITE) if one.step]
    assert [step.name for step in steps][-len(before) :] == before and before[-1] == "numpy"
    # The last before it that computes the reference's integers.
    exact = {one.step for one in load_backends(WITHOUT_LITE) if one.integers}
    assert steps[-1].after == [step.name for step in steps[:-1] if step.evaluation and step.name in exact][-1]
    assert steps[-1].what == "the .npz (made as a package's is) computed by NumPy"
    assert abs(steps[-1].change.difference) < 0.01

    models = [model_of_folder(ModelFolder.open(run_dir / "quantize"))]
    cases, not_run = benchmark(models, ["numpy"], (1, 2), (1,), 1, 0, strict=True, known=KNOWN)
    assert [(case.name, case.threads) for case in cases] == [("numpy_int8", None)] and not not_run

    made = package(Models(small), load_target("generic_onnx"), tmp_path)
    checks = {check.name: check for check in verify(made.folder, known=WITHOUT_LITE).checks}
    assert list(checks) == ["files", *(one.check for one in load_backends(WITHOUT_LITE) if one.check)]
    assert checks["numpy"].holds and checks["onnx"].holds

    assert "NumPy" not in [check.name for check in doctor.checks(known=KNOWN)]  # numpy is a requirement
    assert "Paddle Lite opt" in [check.name for check in doctor.checks(known=KNOWN)]


def test_a_network_that_a_format_cannot_hold_is_refused(taken_apart):
    network = taken_apart[2]
    first = network.operators[0]
    assert Scheme().lacks(network) == ""
    assert Scheme(per_channel=False).lacks(network) == (
        f"weight {first.weight} has a scale for each channel, one for the whole tensor is possible: quantise with "
        "QuantAware.weight_quantize_type=abs_max; docs/accuracy.md has what that costs"
    )
    assert f"weight {first.weight} has 8 bits, 4 are possible" in Scheme(weight_bits=(4,)).lacks(network)
    assert f"tensor {first.activation} has 8 bits, 16 or 32 are possible" in (
        Scheme(activation_bits=(16, 32)).lacks(network)
    )
    params = QuantParams.of_range(2.0, zero_point=-64)
    tensor = replace(network.tensors[first.activation], params=params)
    shifted = replace(network, tensors={**network.tensors, first.activation: tensor})
    assert f"tensor {first.activation} is not symmetric about 0" in Scheme().lacks(shifted)
    assert Scheme(zero_points=True).lacks(shifted) == ""
    lacking = Scheme(every_tensor=True).lacks(network)
    assert "has no range, without which it cannot be in INT8" in lacking
    assert network.tensors[lacking.split()[1]].params is None


def test_nothing_heavy_is_loaded_by_the_table():
    code = "import sys; from picoquant.backends.base import load_backends; load_backends(); "
    code += "print({'numpy', 'paddle', 'onnx', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "set()"
