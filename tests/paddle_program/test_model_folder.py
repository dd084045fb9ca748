"""Opening a model folder: which file is missing, and what to do."""

from __future__ import annotations

import pytest

from picoquant.errors import WeightsError
from picoquant.export import InferConfig, ModelFolder

CONFIG = InferConfig((32, 32), ("a",))


def test_opens_files_under_other_names(tmp_path):
    for name in ("net.pdmodel", "net.pdiparams"):
        (tmp_path / name).touch()
    folder = ModelFolder.open(tmp_path, "net.pdmodel", "net.pdiparams", CONFIG)
    assert folder.model == tmp_path / "net.pdmodel"
    assert folder.params == tmp_path / "net.pdiparams" and folder.config is CONFIG


def test_no_folder(tmp_path):
    with pytest.raises(WeightsError, match="no such model folder: .*absent"):
        ModelFolder.open(tmp_path / "absent")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"model\.pdmodel is missing"):
        ModelFolder.open(tmp_path)
    (tmp_path / "model.pdmodel").touch()
    with pytest.raises(WeightsError, match=r"model\.pdiparams is missing"):
        ModelFolder.open(tmp_path)
    (tmp_path / "model.pdiparams").touch()
    with pytest.raises(WeightsError, match=r"infer_cfg\.yml is missing"):
        ModelFolder.open(tmp_path)


def test_another_model_in_the_folder_is_offered(tmp_path):
    (tmp_path / "picodet.pdmodel").touch()
    with pytest.raises(WeightsError, match=r"picodet\.pdmodel is there.*model_filename"):
        ModelFolder.open(tmp_path)


def test_a_program_of_paddle_3(tmp_path):
    (tmp_path / "model.json").touch()
    with pytest.raises(WeightsError, match="PaddlePaddle 3.*FLAGS_enable_pir_api=0"):
        ModelFolder.open(tmp_path)
