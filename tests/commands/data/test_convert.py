"""`picoquant data convert`: what is read back is what was there; nothing is overwritten."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from picoquant.commands.data.paths import data_sets_at
from picoquant.data.formats.load import load_dataset


def load(path, section):
    (settings,) = [one for one in data_sets_at(path) if one.section == section]
    return load_dataset(settings, section == "TrainDataset")


def objects(dataset):
    """(name of the image, class, box) of every object, and which are crowds."""
    return [
        (os.path.basename(record.path), dataset.class_names[label], box, crowd)
        for record in dataset.records
        for label, box, crowd in zip(record.classes.tolist(), record.boxes.tolist(), record.is_crowd.tolist())
    ]


def same_objects(first, second):
    assert [one[:2] + one[3:] for one in first] == [one[:2] + one[3:] for one in second]
    np.testing.assert_allclose([one[2] for one in first], [one[2] for one in second], atol=2e-3)


@pytest.fixture
def voc(shared, tmp_path):
    folder = tmp_path / "voc"
    folder.mkdir()
    for part in ("Annotations", "ImageSets", "JPEGImages"):
        os.symlink(shared / "datasets/bccd" / part, folder / part)
    return folder


@pytest.mark.parametrize("section", ["TrainDataset", "EvalDataset"])
def test_voc_read_back_as_coco_is_the_same(voc, picoquant, tmp_path, section):
    out = tmp_path / "out"
    done = picoquant("convert", voc, "--out", out, "--link", "--json")
    assert done.code == 0
    made = json.loads(done.out)
    assert {name: (part["images"], part["boxes"]) for name, part in made.items()} == {
        "train": (205, 2804), "val": (87, 1137),
    }  # fmt: skip
    assert sorted(os.listdir(out)) == ["annotations", "train", "val"]
    same_objects(objects(load(voc, section)), objects(load(out, section)))


def test_what_coco_counts_stays_as_it_is(broken, picoquant, tmp_path):
    """Of val: boxes outside their image, stated areas, crowds, marks, images without objects."""

    def edit(content):
        first = content["annotations"][0]
        content["annotations"] = [
            {**first, "bbox": [50, 30, 30, 30], "area": 77.5},
            {**first, "id": 7, "iscrowd": 1},
            {**first, "id": 8, "ignore": 1},
        ]

    root = broken(val=edit)
    assert picoquant("convert", root, "--out", tmp_path / "out").code == 0
    content = json.loads((tmp_path / "out/annotations/instances_val.json").read_text())
    kept = content["annotations"]
    assert [(entry["bbox"], entry["area"], entry["iscrowd"], entry.get("ignore")) for entry in kept] == [
        ([50, 30, 30, 30], 77.5, 0, None), ([10, 5, 20, 15], 300, 1, None), ([10, 5, 20, 15], 300, 0, 1),
    ]  # fmt: skip
    assert len(content["images"]) == 6
    assert content["categories"] == [{"id": 7, "name": "seven"}, {"id": 3, "name": "three"}]
    first, second = load(root, "EvalDataset"), load(tmp_path / "out", "EvalDataset")
    assert first.ground_truth() == second.ground_truth()


def test_training_images_without_objects_are_kept(broken, picoquant, tmp_path):
    root = broken(lambda content: content.update(annotations=content["annotations"][:1]))
    assert picoquant("convert", root, "--out", tmp_path / "out").code == 0
    assert len(os.listdir(tmp_path / "out/train")) == 6
    assert len(load(tmp_path / "out", "TrainDataset")) == len(load(root, "TrainDataset")) == 1


def test_images_are_copied_linked_or_left(broken, picoquant, tmp_path):
    root = broken()
    source = root / "train/0.png"
    for name, option in (("copied", ()), ("linked", ("--link",)), ("left", ("--no-images",))):
        assert picoquant("convert", root, "--out", tmp_path / name, *option).code == 0
    assert (tmp_path / "copied/train/0.png").read_bytes() == source.read_bytes()
    assert not os.path.samefile(tmp_path / "copied/train/0.png", source)
    assert os.path.samefile(tmp_path / "linked/train/0.png", source)
    assert os.listdir(tmp_path / "left") == ["annotations"]


def test_its_lines_are_a_recipes(broken, picoquant, tmp_path):
    done = picoquant("convert", broken(), "--out", tmp_path / "out")
    config = tmp_path / "my.yml"
    config.write_text("_BASE_: picodet_s_416_coco_npu.yml\n" + done.out.partition("in a recipe:\n")[2])
    assert picoquant("check", "-c", config).code == 0


def test_nothing_is_overwritten_without_force(broken, picoquant, tmp_path):
    root, out = broken(), tmp_path / "out"
    (out / "annotations").mkdir(parents=True)
    (out / "mine.txt").write_text("mine")
    target = out / "annotations/instances_val.json"
    target.write_text("mine")
    done = picoquant("convert", root, "--out", out)
    assert done.code == 2
    assert f"{target} is there already; choose another --out, or replace it with --force" in done.err
    assert target.read_text() == "mine" and not (out / "train").exists()
    assert picoquant("convert", root, "--out", out, "--force").code == 0
    assert len(json.loads(target.read_text())["images"]) == 6
    assert (out / "mine.txt").read_text() == "mine"
    assert [name for name in os.listdir(tmp_path) if name.startswith(".out")] == []


def test_what_is_read_is_never_replaced(broken, picoquant, tmp_path):
    out = tmp_path / "out"
    assert picoquant("convert", broken(), "--out", out).code == 0
    before = (out / "annotations/instances_train.json").read_bytes()
    done = picoquant("convert", out, "--out", out, "--force")
    assert done.code == 2
    assert "is read, and would be overwritten; choose another --out" in done.err
    assert (out / "annotations/instances_train.json").read_bytes() == before


def test_missing_images_are_refused_and_leave_nothing(broken, picoquant, tmp_path):
    root = broken()
    (root / "valid/3.png").unlink()
    done = picoquant("convert", root, "--out", tmp_path / "out")
    assert done.code == 2 and "1 of 6 images of EvalDataset are missing" in done.err
    assert sorted(os.listdir(tmp_path)) == ["set"]


def test_images_of_one_name_in_two_folders_stay_apart(broken, picoquant, tmp_path):
    def edit(content):
        content["images"][1]["file_name"] = "below/0.png"
        content["images"][2]["file_name"] = "../elsewhere/0.png"

    root = broken(edit)
    (root / "train/below").mkdir()
    (root / "elsewhere").mkdir()
    os.rename(root / "train/1.png", root / "train/below/0.png")
    os.rename(root / "train/2.png", root / "elsewhere/0.png")
    assert picoquant("convert", root / "train/_annotations.coco.json", "--out", tmp_path / "out").code == 0
    made = tmp_path / "out/train"
    assert (made / "below/0.png").read_bytes() == (root / "train/below/0.png").read_bytes()
    assert (made / "0_2.png").read_bytes() == (root / "elsewhere/0.png").read_bytes()
    assert (made / "0.png").read_bytes() == (root / "train/0.png").read_bytes()


def test_a_file_in_the_place_of_a_folder_is_one_line(broken, picoquant, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file/out"):
        done = picoquant("convert", broken(), "--out", out)
        assert done.code == 2
        assert done.err.splitlines()[-1].endswith(
            f"{tmp_path / 'file'} is a file, not a folder; choose another --out"
        )
