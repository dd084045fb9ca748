"""Which file a name or a `_BASE_` entry means."""

from __future__ import annotations

import re

import pytest

from picoquant.config.data import reader_settings
from picoquant.config.detector import parse_detector
from picoquant.config.recipe import load_recipe
from picoquant.detector.settings import ATSSAssigner, QualityFocalLoss
from picoquant.errors import ConfigError
from picoquant.yaml_files.load import load_with_bases
from picoquant.yaml_files.locate import find, shipped_files, shipped_folder, shipped_names

FOLDER = shipped_folder("configs")


def test_parts_of_configurations_are_no_names():
    assert not {"runtime", "coco_detection", "voc", "picodet_v2", "optimizer_300e"} & set(
        shipped_names("configs")
    )


def test_no_name_stands_for_two_files():
    files = [path for path in FOLDER.rglob("*.yml") if not {"_base_", "datasets"} & set(path.parts)]
    assert len({path.stem for path in files}) == len(files) == len(shipped_files("configs")) + 1  # runtime


@pytest.mark.parametrize(
    "name",
    [
        "picodet_s_320_coco",
        "picodet_s_320_coco.yml",
        "legacy_model/picodet_s_320_coco",
        "legacy_model/picodet_s_320_coco.yml",
    ],
)
def test_a_configuration_in_a_folder_is_found(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find(("configs",), name) == FOLDER / "legacy_model" / "picodet_s_320_coco.yml"


def test_the_users_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picodet_s_320_coco.yml").write_text("epoch: 1\n")
    assert load_with_bases(find(("configs",), "picodet_s_320_coco.yml")) == {"epoch": 1}


def test_a_wrong_folder_is_told_with_the_name_to_type(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no such file: configs/picodet_s_320_coco\.yml; picoquant ships "):
        find(("configs",), "configs/picodet_s_320_coco.yml")
    with pytest.raises(ConfigError, match="no such file: "):
        find(("configs",), "../configs/runtime.yml")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match=re.escape("(did you mean picodet_xs_320_coco_lcnet?)")):
        find(("configs",), "picodet_xs_320_coco_lcnt.yml")


# PaddleDetection's files of 2022 and of 2021.10 name bases alike; what tells them apart is the file's own
# name, its folder, or the other bases beside. Batch sizes at 320: 64 in 2022, 128 in 2021.10.
LEGACY = "['../../datasets/coco_detection.yml', '_base_/picodet_esnet.yml', '_base_/picodet_320_reader.yml']"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_name_of_a_file_tells_its_bases(tmp_path):
    reader = "_BASE_: [_base_/picodet_320_reader.yml]\n"
    of = {
        name: load_with_bases(write(tmp_path / name, reader)) for name in ("picodet_s_320_coco.yml", "a.yml")
    }
    assert of["picodet_s_320_coco.yml"]["TrainReader"]["batch_size"] == 128
    assert of["a.yml"]["TrainReader"]["batch_size"] == 64


def test_the_folder_of_a_file_tells_its_bases(tmp_path):
    path = write(tmp_path / "legacy_model" / "more" / "a.yml", "_BASE_: ['../_base_/optimizer_300e.yml']\n")
    assert load_with_bases(path)["LearningRate"]["base_lr"] == 0.4
    path = write(tmp_path / "b.yml", "_BASE_: ['_base_/optimizer_300e.yml']\n")
    assert load_with_bases(path)["LearningRate"]["base_lr"] == 0.32


def test_one_base_tells_the_others(tmp_path):
    config = load_with_bases(write(tmp_path / "mine.yml", f"_BASE_: {LEGACY}\n"))
    assert config["PicoDet"]["backbone"] == "ESNet"
    assert config["TrainReader"]["batch_size"] == 128
    assert config["TrainDataset"].tag == "COCODataSet"


def test_a_base_beside_the_file_wins(tmp_path):
    write(tmp_path / "_base_" / "picodet_320_reader.yml", "TrainReader: {batch_size: 3}\n")
    config = load_with_bases(write(tmp_path / "mine.yml", f"_BASE_: {LEGACY}\n"))
    assert config["TrainReader"] == {"batch_size": 3}
    assert config["PicoDet"]["backbone"] == "ESNet"


def test_a_data_set_file_is_found_wherever_it_was(tmp_path):
    # The main body detector of release/2.3 has its data set beside it, not in datasets/.
    config = load_with_bases(write(tmp_path / "a.yml", "_BASE_: [./mainbody_detection.yml]\n"))
    assert config["num_classes"] == 1


def test_a_file_of_august_2021_loads_as_it_is(tmp_path):
    # As they were then: architecture GFL, the assigner in the reader, loss_qfl.
    path = write(
        tmp_path / "picodet_s_shufflenetv2_320_coco.yml",
        "_BASE_: ['../datasets/coco_detection.yml', '../runtime.yml', '_base_/picodet_shufflenetv2_1x.yml',\n"
        "  '_base_/optimizer_280e.yml', '_base_/picodet_320_reader.yml']\n"
        "architecture: GFL\n"
        "GFL: {backbone: ShuffleNetV2, neck: PAN, head: PicoHead}\n"
        "TrainReader:\n"
        "  batch_transforms:\n"
        "  - Permute: {}\n"
        "  - Gt2GFLTarget: {downsample_ratios: [8, 16, 32], grid_cell_scale: 4, cell_offset: 0.5}\n",
    )
    recipe = load_recipe(str(path))
    head = parse_detector(recipe.document).head
    assert isinstance(head.assigner, ATSSAssigner) and isinstance(head.loss_class, QualityFocalLoss)
    assert head.grid_cell_scale == 4
    assert [spec.name for spec in reader_settings(recipe, "TrainReader").batch_transforms] == ["Permute"]


def test_keys_of_release_2_3_are_known(tmp_path):
    base = "_BASE_: [_base_/picodet_esnet.yml]\n"
    path = write(
        tmp_path / "a.yml", f"{base}export_post_process: false\nSimOTAAssigner: {{center_radius: 2.0}}\n"
    )
    assert parse_detector(load_recipe(str(path)).document).head.assigner.center_radius == 2.0
