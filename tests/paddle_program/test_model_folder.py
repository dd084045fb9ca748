"""Opening a model folder: which file is missing, and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from picoquant.errors import WeightsError
from picoquant.export import ModelFolder
from picoquant.paddle_program.model_folder import find_files
from tests.networks.small_net import CONFIG


@pytest.fixture
def written(small_model, tmp_path):
    """`written(names)`: files of a model in `tmp_path`; the programs are one, the weights are not looked into."""

    def write(names):
        for name in names:
            if name.endswith(("model", "__model__")):
                (tmp_path / name).write_bytes((small_model / "model.pdmodel").read_bytes())
            else:
                (tmp_path / name).touch()

    return write


def test_opens_files_under_other_names(written, tmp_path):
    written(("net.pdmodel", "net.pdiparams"))
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


PADDLE_3 = Path(__file__).parent / "pir" / "small"


@pytest.mark.parametrize("stem", ["inference", "model", "mine"])
def test_a_program_of_paddle_3_is_found_by_itself(stem, tmp_path):
    for suffix in (".json", ".pdiparams"):
        shutil.copyfile(PADDLE_3 / f"inference{suffix}", tmp_path / f"{stem}{suffix}")
    shutil.copyfile(PADDLE_3 / "inference.yml", tmp_path / "inference.yml")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    for named in ({}, {"model_filename": f"{stem}.json"}, {"params_filename": f"{stem}.pdiparams"}):
        folder = ModelFolder.open(tmp_path, **named)
        assert (folder.model, folder.params) == (tmp_path / f"{stem}.json", tmp_path / f"{stem}.pdiparams")


def test_a_pdmodel_comes_before_a_program_of_paddle_3(tmp_path):
    for name in ("inference.json", "inference.pdmodel", "inference.pdiparams"):
        (tmp_path / name).touch()
    assert find_files(tmp_path)[0].name == "inference.pdmodel"


def test_a_program_of_paddle_3_without_its_weights_is_offered(tmp_path):
    (tmp_path / "inference.json").touch()
    with pytest.raises(
        WeightsError, match=r"model\.pdmodel is missing; inference\.json is there.*model_filename"
    ):
        ModelFolder.open(tmp_path)
    with pytest.raises(WeightsError, match=r"pdiparams is missing"):
        ModelFolder.open(tmp_path, "inference.json")


PAIRS = {
    "PaddleX": ("inference.pdmodel", "inference.pdiparams"),
    "Paddle 1": ("__model__", "__params__"),
    "a name of one's own": ("best.pdmodel", "best.pdiparams"),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_pair_of_files_is_found_by_itself(pair, written, tmp_path, caplog):
    written(pair)
    caplog.set_level("INFO")
    folder = ModelFolder.open(tmp_path, config=CONFIG)
    assert (folder.model.name, folder.params.name) == pair
    assert caplog.messages == [f"{tmp_path}: its files are {pair[0]} and {pair[1]}"]
    assert ModelFolder.open(tmp_path, pair[0], config=CONFIG).params.name == pair[1]
    if pair[1] != "__params__":
        assert ModelFolder.open(tmp_path, params_filename=pair[1], config=CONFIG).model.name == pair[0]


def test_the_usual_names_come_first_and_what_is_named_is_taken(written, tmp_path):
    written(("model.pdmodel", "model.pdiparams", "inference.pdmodel", "inference.pdiparams"))
    assert ModelFolder.open(tmp_path, config=CONFIG).model.name == "model.pdmodel"
    assert ModelFolder.open(tmp_path, *PAIRS["PaddleX"], CONFIG).model.name == "inference.pdmodel"
    with pytest.raises(WeightsError, match=r"other\.pdmodel is missing"):
        ModelFolder.open(tmp_path, "other.pdmodel", "other.pdiparams")


def test_two_pairs_of_other_names_are_no_guess(tmp_path):
    for name in ("a.pdmodel", "a.pdiparams", "b.pdmodel", "b.pdiparams"):
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=r"a\.pdmodel, b\.pdmodel is there: name it with model_filename"):
        ModelFolder.open(tmp_path)


def test_a_folder_with_a_file_for_each_weight(tmp_path):
    for name in ("__model__", "conv1_weights"):
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match="__model__ is there without __params__"):
        ModelFolder.open(tmp_path)
