"""What a data set is, for a fingerprint: large files are looked at once a command, and again when they changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from picoquant.data.formats.coco_file import peek_categories
from picoquant.stages import datasets
from picoquant.stages.plan import load_plan
from picoquant.stages.stage import Context
from tests.networks.run_folder import write_images


@pytest.fixture
def context(tmp_path):
    """Both data sets on one folder of images."""
    write_images(tmp_path)
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "block"}]}
    (tmp_path / "train.json").write_text(json.dumps(content))
    places = {"dataset_dir": tmp_path, "image_dir": "images", "anno_path": "train.json"}
    changes = [
        f"{section}.{key}={value}"
        for section in ("TrainDataset", "EvalDataset")
        for key, value in places.items()
    ]
    return Context(load_plan("picodet_s_416_coco_npu.yml", changes), None, "cpu")


def test_a_large_file_is_looked_at_once(context, tmp_path, monkeypatch):
    looked, digest = [], datasets.sha256
    monkeypatch.setattr(
        datasets, "sha256", lambda path, *watch: looked.append(Path(path).name) or digest(path, *watch)
    )
    found = [
        datasets.identity(context, section) for section in ("TrainDataset", "EvalDataset", "TrainDataset")
    ]
    assert found[0] == found[1] == found[2] and looked == ["train.json"]


def test_what_has_changed_is_looked_at_again(context):
    settings = datasets.settings_of(context, "TrainDataset")
    before = datasets.identity(context, "TrainDataset")
    file, image = settings.annotation_file, next(settings.image_folder.iterdir())
    date = file.stat().st_mtime_ns
    file.write_text(file.read_text().replace("block", "brick"))
    os.utime(file, ns=(date, date))
    image.write_bytes(image.read_bytes() + b"\0")
    after = datasets.identity(context, "TrainDataset")
    assert before["annotations"] != after["annotations"] and before["images"] != after["images"]


def test_a_folder_is_listed_once_for_both_data_sets(context, monkeypatch):
    alone = [datasets.identity(context, section) for section in ("TrainDataset", "EvalDataset")]
    listed, names = [], datasets._names_and_sizes
    monkeypatch.setattr(datasets, "_names_and_sizes", lambda folder: listed.append(folder) or names(folder))
    assert datasets.identities(context, "TrainDataset", "EvalDataset") == alone
    assert len(listed) == 1


def test_the_categories_are_those_of_the_file_read_alone(context, tmp_path):
    file = datasets.settings_of(context, "TrainDataset").annotation_file
    for categories in (
        [{"id": 1, "name": "block"}],
        [{"id": 0, "name": "all"}, {"id": 1, "name": "a", "supercategory": "all"}],
        [{"id": 3, "name": "ü"}, {"id": 2, "name": "a" * 100000}],
    ):
        file.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
        assert datasets.categories_of(context, file) == peek_categories(file)
