"""What a user's own data may hold, through the whole command line."""

from __future__ import annotations

import json
import shutil

import pytest

from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from tests.command_line import SMALL, data_sets, picoquant, refusal, with_sets

SETTINGS = [text for text in SMALL if not text.startswith("Synthetic")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    write_synthetic(folder, SyntheticSet(seed=1, train_images=6, val_images=3, image_size=96))
    return folder


@pytest.fixture
def data(whole, tmp_path):
    """A data set of one's own, to break."""
    return shutil.copytree(whole, tmp_path / "set")


def train(data, tmp_path, *more):
    return picoquant(
        "train", "-c", "picodet_s_416_coco_npu", "--save-dir", tmp_path / "out",
        *with_sets([*SETTINGS, *data_sets(data), "pretrain_weights=null", *more]),
    )  # fmt: skip


def annotations(data):
    return data / "annotations/instances_train.json"


def edit(data, change):
    content = json.loads(annotations(data).read_text())
    change(content)
    annotations(data).write_text(json.dumps(content))


def refused(done, *texts):
    line = refusal(done)
    for text in texts:
        assert text in line


def test_a_missing_annotation_file(data, tmp_path):
    annotations(data).unlink()
    refused(train(data, tmp_path), "instances_train.json", "TrainDataset.anno_path")


def test_an_empty_annotation_file(data, tmp_path):
    annotations(data).write_text("")
    refused(train(data, tmp_path), "instances_train.json is empty")


def test_json_that_is_no_coco(data, tmp_path):
    annotations(data).write_text("[1, 2]")
    refused(train(data, tmp_path), "instances_train.json", "no COCO")


def test_missing_images_are_named(data, tmp_path):
    shutil.rmtree(data / "train")
    (data / "train").mkdir()
    refused(train(data, tmp_path), "TrainDataset")


def test_a_truncated_image_is_named(data, tmp_path):
    broken = sorted((data / "train").iterdir())[:3]  # of 6, so that a batch of 4 holds at least one
    for image in broken:
        image.write_bytes(image.read_bytes()[:200])
    line = refusal(train(data, tmp_path))
    assert any(image.name in line for image in broken)


def test_no_image_with_objects(data, tmp_path):
    edit(data, lambda content: content.update(annotations=[]))
    refused(train(data, tmp_path), "instances_train.json")


def test_weights_of_another_architecture(data, tmp_path, shared):
    weights = shared / "weights/picodet_s_320_coco.pdparams"
    done = train(data, tmp_path, f"pretrain_weights={weights}")
    refused(done, "picodet_s_320_coco.pdparams")


def test_gaps_in_category_ids_and_boxes_outside_are_trained_on(data, tmp_path):
    def change(content):
        first = content["annotations"][0]
        content["annotations"].append({**first, "id": 9001, "bbox": [80, 80, 100, 100]})
        content["annotations"].append({**first, "id": 9002, "bbox": [5, 5, 0, 10]})

    edit(data, change)
    for split in ("train", "val"):
        path = data / f"annotations/instances_{split}.json"
        content = json.loads(path.read_text())
        for entry in content["categories"]:
            entry["id"] = entry["id"] * 10
        for entry in content["annotations"]:
            entry["category_id"] *= 10
        path.write_text(json.dumps(content))
    done = train(data, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "clipped" in done.stderr and "dropped" in done.stderr


def test_a_run_refuses_damaged_evaluation_images_before_it_trains(data, tmp_path):
    """They would stop the evaluation behind the first epoch."""
    image = sorted((data / "val").iterdir())[1]
    image.write_bytes(b"<html>")
    done = train(data, tmp_path)
    refused(
        done, "1 of 3 images of EvalDataset cannot be read", f"image {image} is no image that OpenCV reads"
    )
    assert "epoch 1" not in done.stderr


def test_a_run_refuses_boxes_that_are_all_too_small(data, tmp_path):
    def change(content):
        for entry in content["annotations"]:
            entry["bbox"] = [10, 10, 5, 5]  # 96 pixels become 64: 3.3 in the network's input

    edit(data, change)
    done = train(data, tmp_path)
    refused(done, "boxes of TrainDataset are below 8 pixels on both sides", "input of 64x64 (at most 4)")
    record = json.loads((tmp_path / "out/run.json").read_text())["stages"]["train"]
    assert record["status"] == "failed" and "too small to be learnt" in record["error"]
