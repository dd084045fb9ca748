"""A folder is recognised by what it holds, or refused with what is looked for."""

from __future__ import annotations

import json
import logging
import re

import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.coco_file import KeyPlaces, peek_categories
from picoquant.data.formats.folder import LOOKED_FOR, recognise, settings_for
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from tests.data.coco_sets import coco_content, write_images
from tests.data.formats import converted
from tests.data.formats.converted import bccd, objects_of
from tests.data.formats.test_labelme import RECTANGLE, write
from tests.data.formats.test_voc import xml
from tests.data.formats.test_yolo import BOX, WRITERS, small


def coco(root, images, annotations, count=2, **more):
    """Images in one place, the COCO file in another."""
    names = write_images(root / images, count)
    path = root / annotations
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**coco_content(names), **more}))


COCO_LAYOUTS = {
    "roboflow": [("{}", "{}/_annotations.coco.json"), ("train", "valid")],
    "coco 2017": [("{}2017", "annotations/instances_{}2017.json"), ("train", "val")],
    "images below images": [("images/{}2017", "annotations/instances_{}2017.json"), ("train", "val")],
    "paddlex": [("images", "annotations/instance_{}.json"), ("train", "val")],
    "cvat": [("images/{}", "annotations/instances_{}.json"), ("Train", "Validation")],
    "plain": [("{}", "{}.json"), ("train", "val")],
    "plain in annotations": [("JPEGImages", "annotations/{}.json"), ("train", "valid")],
    "files beside": [(".", "instances_{}.json"), ("train", "val")],
}


@pytest.mark.parametrize("layout", COCO_LAYOUTS)
def test_coco(tmp_path, layout):
    (images, annotations), names = COCO_LAYOUTS[layout]
    for name in names:
        coco(tmp_path, images.format(name), annotations.format(name))
    found = recognise(tmp_path)
    assert (found.format, list(found.parts), found.class_names) == (
        "coco",
        ["train", "val"],
        ("seven", "three"),
    )
    for part, name in zip(("train", "val"), names):
        dataset = found.load(part)
        assert dataset.annotation_file == tmp_path / annotations.format(name)
        assert [len(record.boxes) for record in dataset.records] == [1, 1]
        assert {record.path.rsplit("/", 1)[0] for record in dataset.records} == {
            str(tmp_path / images.format(name))
        }


def test_cocos_other_files_are_passed_by(tmp_path):
    for kind in ("instances", "captions", "person_keypoints", "image_info_test"):
        coco(tmp_path, "val2017", f"annotations/{kind}_val2017.json")
    found = recognise(tmp_path)
    assert {part: each.anno_path for part, each in found.parts.items()} == {
        "val": "annotations/instances_val2017.json"
    }


def test_one_coco_file(tmp_path):
    coco(tmp_path, "images", "result.json")
    assert list(recognise(tmp_path).parts) == ["all"]
    assert settings_for(tmp_path, "EvalDataset").image_dir == "images"
    with pytest.raises(DataError, match=r"COCO \(result.json\) without a part train, only all; name images"):
        settings_for(tmp_path, "TrainDataset")


@pytest.mark.parametrize("size", [1, 2, 5, 13, 14, 15, 40, 1000])
def test_the_key_of_the_categories_is_found_whatever_the_parts_read(size):
    text = b'"categories"{"images": [], "categories" : [{"id": 1}], ""categories"categories"categories"'
    places, part = KeyPlaces(), bytearray(size)
    for start in range(0, len(text), size):
        some = text[start : start + size]
        part[: len(some)] = some
        places.see(part, len(some))
    assert places.places == [match.start() for match in re.finditer(b'(?="categories")', text)]


def test_coco_files_of_which_one_must_be_named(tmp_path):
    for name in ("instances_val2014", "instances_val2017"):
        coco(tmp_path, "images", f"annotations/{name}.json")
    with pytest.raises(
        DataError, match="part val may be annotations/.*val2014.json or annotations/.*val2017.json"
    ):
        recognise(tmp_path)


def test_coco_whose_images_are_elsewhere(tmp_path):
    coco(tmp_path, "somewhere/else", "annotations/instances_val.json")
    with pytest.raises(DataError, match=r"images of val are missing, .*0.png; correct val.image_dir"):
        recognise(tmp_path).load("val")


def roots(name="cells", above="none"):
    return [
        {"id": 0, "name": name, "supercategory": above},
        {"id": 7, "name": "seven", "supercategory": name},
        {"id": 3, "name": "three", "supercategory": name},
    ]


@pytest.mark.parametrize(
    ("categories", "names"),
    [
        (roots(), ("seven", "three")),
        (roots("seven"), ("seven", "three")),
        (roots(above=""), ("seven", "three")),
        (roots(above="cells"), ("seven", "three")),
        ([{"id": 0, "name": "cells"}, *roots()[1:]], ("seven", "three")),
        (roots(above="things"), ("cells", "seven", "three")),
        ([*roots()[:2], {"id": 3, "name": "three", "supercategory": "none"}], ("cells", "seven", "three")),
        ([{**roots()[0], "id": 1}, *roots()[1:]], ("cells", "seven", "three")),
        (roots()[1:], ("seven", "three")),
    ],
)
def test_roboflows_root_category_is_no_class(tmp_path, caplog, categories, names):
    caplog.set_level(logging.INFO)
    coco(tmp_path, "train", "train/_annotations.coco.json", categories=categories)
    dataset = recognise(tmp_path).load("train")
    assert dataset.class_names == names == recognise(tmp_path).class_names
    assert [dataset.class_names[record.classes[0]] for record in dataset.records] == ["seven", "seven"]
    left_out = len(names) < len(categories)
    said = f"category 0 ({categories[0]['name']}) has no boxes and stands above all others: left out, as no class"
    assert (said in caplog.text) == left_out
    assert [entry["name"] for entry in dataset.ground_truth()["categories"]] == list(names)


@pytest.mark.parametrize("form", [0, 0.0])
def test_a_root_category_with_boxes_is_a_class(tmp_path, form):
    coco(tmp_path, "train", "train/_annotations.coco.json", categories=roots())
    path = tmp_path / "train/_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["category_id"] = form
    path.write_text(json.dumps(content, indent=1))
    settings = DatasetSettings("coco", str(tmp_path), "train", "train/_annotations.coco.json")
    assert load_coco(settings, False).class_names == ("cells", "seven", "three")
    assert [name for _, name in peek_categories(path)] == ["cells", "seven", "three"]


@pytest.mark.parametrize("write_it", WRITERS, ids=lambda write: write.__name__)
def test_yolo(tmp_path, shared, write_it):
    write_it(tmp_path, shared)
    found = recognise(tmp_path)
    assert (found.format, list(found.parts)) == ("yolo", ["train", "val"])
    assert found.class_names == ("RBC", "WBC", "Platelets")
    assert len(found.load("val")) == 87


def test_yolo_by_its_file_and_without_parts(tmp_path):
    root = small(tmp_path, BOX)
    assert recognise(root / "data.yaml").load("train").records[0].boxes.tolist() == [[6, 8, 18, 24]]
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("a\nb\n")
    found = recognise(root)
    assert found.describe() == f"{root} is YOLO (classes.txt), part all, 2 classes: a, b"
    assert found.load("all").records[0].boxes.tolist() == [[6, 8, 18, 24]]


def test_voc_and_labelme_of_roboflow_number_classes_alike_in_all_parts(tmp_path, shared):
    for kind in ("voc", "labelme"):
        train, val = bccd(shared, "train", 20), bccd(shared, "val", 1)
        val.boxes = {key: [box for box in boxes if box[0] != 2] for key, boxes in val.boxes.items()}
        for source, part in ((train, "train"), (val, "valid")):
            folder = tmp_path / kind / part
            if kind == "voc":
                converted.write_voc(source, folder, folder)
            else:
                converted.write_labelme(source, folder)
        found = recognise(tmp_path / kind)
        assert (found.format, list(found.parts)) == (kind, ["train", "val"])
        assert found.load("val").class_names == found.load("train").class_names == ("Platelets", "RBC", "WBC")
        assert {name for name, *_ in sum(objects_of(found.load("val")).values(), [])} == {"RBC", "WBC"}


@pytest.mark.parametrize(
    ("lists", "parts"),
    [
        ({"ImageSets/Main/train.txt": "0", "ImageSets/Main/val.txt": "1"}, {"train": "0", "val": "1"}),
        ({"ImageSets/Main/trainval.txt": "0", "ImageSets/Main/test.txt": "1"}, {"train": "0", "test": "1"}),
        ({"train.txt": "0\n1", "trainval.txt": "0", "val.txt": "1"}, {"train": "0", "val": "1"}),
        (
            {
                "train_list.txt": "JPEGImages/0.png Annotations/0.xml",
                "val_list.txt": "JPEGImages/1.png Annotations/1.xml",
                "labels.txt": "axle\nwheel",
            },
            {"train": "0", "val": "1"},
        ),
        ({}, {"all": "0"}),
    ],
)
def test_voc(tmp_path, lists, parts):
    write_images(tmp_path / "JPEGImages", 2)
    (tmp_path / "Annotations").mkdir()
    for number, name in enumerate(("axle", "wheel")):
        (tmp_path / "Annotations" / f"{number}.xml").write_text(xml((name, 10, 5, 30, 20, 0)))
    for name, text in lists.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = recognise(tmp_path)
    assert (found.format, list(found.parts), found.class_names) == ("voc", list(parts), ("axle", "wheel"))
    for part, first in parts.items():
        dataset = found.load(part)
        assert dataset.records[0].path.endswith(f"JPEGImages/{first}.png")
        assert dataset.class_names == ("axle", "wheel")
    if "train" in parts:
        assert settings_for(tmp_path, "EvalDataset").anno_path == found.parts[list(parts)[1]].anno_path


def test_labelme(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write(tmp_path, RECTANGLE)
    assert settings_for(tmp_path, "EvalDataset").format == "labelme"
    assert (
        f"EvalDataset: {tmp_path} is LabelMe (JSON files with shapes), part all, 1 classes: a" in caplog.text
    )
    (tmp_path / "labels.txt").write_text("__ignore__\nb\na\n")
    assert recognise(tmp_path).load("all").class_names == recognise(tmp_path).class_names == ("b", "a")


def test_coco_beside_the_voc_files_it_was_made_of_is_read(shared, caplog):
    caplog.set_level(logging.INFO, "picoquant")
    assert recognise(shared / "datasets/bccd").format == "coco"
    assert "holds VOC (ImageSets/Main/train.txt), too: COCO (instances_train.json) is read" in caplog.text


def test_what_may_be_two_things_is_refused(tmp_path):
    write(tmp_path, RECTANGLE)
    coco(tmp_path, ".", "coco.json")
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    assert "holds COCO (coco.json) and LabelMe (JSON files with shapes): say which by type" in str(
        caught.value
    )
    assert LOOKED_FOR in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_refused(tmp_path):
    write_images(tmp_path / "images", 2)
    (tmp_path / "classes.txt").write_text("a\n")  # of whatever
    (tmp_path / "results.json").write_text("[]")
    (tmp_path / "empty.json").write_text("")
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    assert str(caught.value) == f"{tmp_path} holds no data set that is known; looked for {LOOKED_FOR}"
    small(tmp_path / "cells", BOX)
    with pytest.raises(DataError, match=f"known; but {tmp_path}/cells holds one; looked for YOLO"):
        recognise(tmp_path)
    with pytest.raises(DataError, match="no folder .*none: --data, or dataset_dir with type auto, names"):
        recognise(tmp_path / "none")
    with pytest.raises(DataError, match="classes.txt"):
        recognise(tmp_path / "classes.txt")
