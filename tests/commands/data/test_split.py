"""`picoquant data split`: shares, groups, equal images, golden lists."""

from __future__ import annotations

import json
import os
import shutil

import pytest


def split(picoquant, source, out, *more):
    done = picoquant("split", source, "--out", out, "--json", *more)
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.fixture
def bccd(shared):
    return shared / "datasets/bccd/instances_train.json"


def test_bccds_classes_are_shared_out_alike(bccd, picoquant, tmp_path):
    made = split(picoquant, bccd, tmp_path, "--val", 0.2, "--test", 0.1)
    assert {part: entry["images"] for part, entry in made.items()} == {"train": 144, "val": 40, "test": 21}
    total = {"RBC": 2381, "WBC": 214, "Platelets": 209}
    for part, share in (("train", 0.7), ("val", 0.2), ("test", 0.1)):
        for name, count in total.items():
            assert abs(made[part]["classes"][name] / count - share) < 0.01
    names = [name for entry in made.values() for name in entry["names"]]
    assert len(names) == len(set(names)) == 205


def test_a_golden_list(bccd, picoquant, tmp_path):
    made = split(picoquant, bccd, tmp_path / "a", "--test", 0.1, "--val", 0.1, "--seed", 3)
    numbers = [name.removeprefix("BloodImage_00").removesuffix(".jpg") for name in made["val"]["names"]]
    assert numbers[:6] == ["001", "039", "048", "070", "124", "127"]
    again = split(picoquant, bccd, tmp_path / "b", "--test", 0.1, "--val", 0.1, "--seed", 3)
    assert [entry["names"] for entry in again.values()] == [entry["names"] for entry in made.values()]
    other = split(picoquant, bccd, tmp_path / "c", "--test", 0.1, "--val", 0.1, "--seed", 4)
    assert other["val"]["names"] != made["val"]["names"]


def test_its_files_are_data_sets_without_leaks(bccd, picoquant, tmp_path):
    done = picoquant("split", bccd, "--out", tmp_path)
    config = tmp_path / "my.yml"
    config.write_text("_BASE_: picodet_s_416_coco_npu.yml\n" + done.out.partition("in a recipe:\n")[2])
    checked = picoquant("check", "-c", config, "--json")
    result = json.loads(checked.out)
    assert checked.code == 0
    assert result["data_sets"]["train"]["boxes"] + result["data_sets"]["val"]["boxes"] == 2804
    assert result["leaks"]["groups"] == 0


def test_groups_by_name_stay_together(bccd, picoquant, tmp_path):
    made = split(picoquant, bccd, tmp_path, "--group-by", r"_00(\d)")
    groups = [{name.split("_00")[1][0] for name in entry["names"]} for entry in made.values()]
    assert groups[0] & groups[1] == set()
    assert sum(entry["groups"] for entry in made.values()) == len(groups[0] | groups[1]) == 5


def test_images_with_the_same_content_stay_together(broken, picoquant, tmp_path):
    root = broken(count=20)
    for number in range(0, 20, 2):
        shutil.copy(root / f"train/{number}.png", root / f"train/{number + 1}.png")
    made = split(picoquant, root / "train/_annotations.coco.json", tmp_path / "out", "--val", 0.3)
    for entry in made.values():
        numbers = {int(name.partition(".")[0]) for name in entry["names"]}
        assert {number ^ 1 for number in numbers} == numbers
    assert made["val"]["images"] == 6


def test_names_without_the_group_are_said(broken, picoquant, tmp_path):
    root = broken()
    done = picoquant(
        "split", root / "train/_annotations.coco.json", "--out", tmp_path / "out", "--group-by", "[01]"
    )
    assert (
        "--group-by [01]: not found in 4 of 6 file names, such as 2.png: each is a group of its own"
        in done.err
    )


@pytest.mark.parametrize(
    "options, text",
    [
        (["--val", 0], "--val 0 --test 0: both are parts between 0 and 1, and train needs the rest"),
        (["--val", 0.6, "--test", 0.4], "train needs the rest"),
        (["--val", "nan"], "both are parts between 0 and 1"),
        (["--group-by", "("], "it is no regular expression"),
        (["--group-by", "frame"], "found in none of 6 file names, such as 0.png"),
        (["--group-by", "png"], "6 images in 1 groups that stay together are too few for train, val"),
        (["--val", 0.01], "no image is left for val"),
    ],
)
def test_what_cannot_be_split_is_refused(broken, picoquant, tmp_path, options, text):
    done = picoquant("split", broken() / "train/_annotations.coco.json", "--out", tmp_path / "out", *options)
    assert done.code == 2 and text in done.err
    assert not (tmp_path / "out").exists()


def test_files_are_not_overwritten_and_two_sets_are_asked_about(broken, picoquant, tmp_path):
    root, out = broken(), tmp_path / "out"
    file = root / "train/_annotations.coco.json"
    assert picoquant("split", file, "--out", out, "--val", 0.5).code == 0
    before = (out / "instances_train.json").read_bytes()
    done = picoquant("split", file, "--out", out, "--seed", 1, "--val", 0.5)
    assert done.code == 2 and "instances_train.json is there already" in done.err
    assert (out / "instances_train.json").read_bytes() == before
    assert picoquant("split", file, "--out", out, "--force").code == 0
    assert "there are two data sets" in picoquant("split", root, "--out", tmp_path / "other").err


def test_a_class_that_one_part_lacks_is_said(broken, picoquant, tmp_path):
    done = picoquant(
        "split", broken() / "train/_annotations.coco.json", "--out", tmp_path / "out", "--val", 0.5
    )
    assert "has no box of 1 classes: three" in done.err


def test_difficult_objects_of_voc_are_trained_on_and_not_counted(shared, picoquant, tmp_path):
    voc = tmp_path / "voc"
    (voc / "Annotations").mkdir(parents=True)
    (voc / "ImageSets/Main").mkdir(parents=True)
    os.symlink(shared / "datasets/bccd/JPEGImages", voc / "JPEGImages")
    names = (shared / "datasets/bccd/ImageSets/Main/train.txt").read_text().split()[:20]
    (voc / "ImageSets/Main/train.txt").write_text("\n".join(names))
    for name in names:
        text = (shared / f"datasets/bccd/Annotations/{name}.xml").read_text()
        assert "<difficult>0</difficult>" in text
        (voc / f"Annotations/{name}.xml").write_text(text.replace("<difficult>0<", "<difficult>1<", 1))
    split(picoquant, voc / "ImageSets/Main/train.txt", tmp_path / "out", "--val", 0.5)
    crowds = {
        part: sum(
            entry["iscrowd"]
            for entry in json.loads((tmp_path / f"out/instances_{part}.json").read_text())["annotations"]
        )
        for part in ("train", "val")
    }
    assert crowds == {"train": 0, "val": 10}
