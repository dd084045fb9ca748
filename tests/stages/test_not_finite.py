"""NaN and infinity in weights, through each command that takes some: one line that names them, exit code 2."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from picoquant.detector.weights import read_weights, save_weights
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params, write_params
from picoquant.paddle_program.program import read_program
from tests.command_line import SMALL, picoquant, refusal, with_sets


@pytest.fixture(scope="module")
def spoilt(evaluated_run, tmp_path_factory):
    """`weights.pdparams` with an infinite number, and an export with a NaN; the names of both."""
    folder = tmp_path_factory.mktemp("spoilt")
    state = read_weights(evaluated_run / "train/best.pdparams")
    weight = next(name for name, value in state.items() if value.ndim == 4)
    state[weight].ravel()[3] = np.inf
    save_weights(state, folder / "weights.pdparams")
    shutil.copytree(evaluated_run / "export", folder / "export")
    model = ModelFolder.open(folder / "export")
    program = read_program(model.model)
    values = {name: value.copy() for name, value in read_params(program, model.params).items()}
    param = next(name for name, value in values.items() if value.ndim == 4)
    values[param].ravel()[3] = np.nan
    write_params(program, values, model.params)
    return folder, weight, param


_OF_WEIGHTS = {
    "train": ["train", "--set", "pretrain_weights={}"],
    "export": ["export", "--set", "Global.weights={}"],
    "eval": ["eval", "--backend", "dygraph", "--set", "Global.weights={}"],
}
_OF_EXPORT = {
    "eval": ["eval", "--backend", "paddle", "--model", "{}"],
    "onnx": ["eval", "--backend", "onnx", "--model", "{}"],
    "predict": ["predict", "../dataset", "--model", "{}"],
    "quantize": ["quantize", "--set", "Global.model_dir={}"],
    "ptq": ["quantize", "--set", "Global.model_dir={}", "--set", "Quantize.method=ptq"],
    "package": ["package", "--set", "Global.model_dir={}", "--set", "Package.target=arm_cpu"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", _OF_WEIGHTS)
def test_trained_weights_that_are_not_finite(spoilt, tmp_path, name):
    folder, weight, _ = spoilt
    line = _refused(_OF_WEIGHTS[name], folder / "weights.pdparams", tmp_path)
    assert f"weights.pdparams: {weight} holds values that are no finite numbers" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", _OF_EXPORT)
def test_an_export_that_is_not_finite(spoilt, evaluated_run, tmp_path, name):
    folder, _, param = spoilt
    shutil.copytree(evaluated_run / "dataset", tmp_path / "dataset")
    line = _refused(_OF_EXPORT[name], folder / "export", tmp_path / "run")
    assert f"{param} holds values that are no finite numbers" in line


def _refused(arguments, path, run):
    run.mkdir(exist_ok=True)
    common = ["--save-dir", "."] + (
        [] if arguments[0] == "predict" else ["-c", "quickstart", *with_sets(SMALL)]
    )
    command, *rest = (text.format(path) for text in arguments)
    return refusal(
        picoquant(command, *common, *rest, cwd=run)
    )  # of a key that is given twice the last one holds
