"""YOLO folders that are broken or odd: one line that says what, where and what to do."""

from __future__ import annotations

import logging
import re

import pytest

from picoquant.data.formats.yolo.load import load_yolo, yolo_class_names
from picoquant.data.settings import DatasetSettings
from picoquant.errors import ConfigError, DataError
from tests.data.coco_sets import write_images
from tests.data.formats.test_yolo import BOX, load, small, yolo_line


def refused(root, message, **more):
    with pytest.raises(DataError) as caught:
        load(root, **more)
    said = str(caught.value).replace(str(root), "ROOT")
    assert "\n" not in said
    assert message in said
    return said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.1", "'1 0.5 0.5 0.1' is no line of YOLO's, class x y width height"),
        ("0.5 0.5 0.1 0.1", "'0.5 0.5 0.1 0.1' is no line of YOLO's"),
        ("1 0.5 0.5 0.1 0.1 0.9 0.9 0.9", "'1 0.5 0.5 0.1 0.1 0.9 0.9 0.9' is no line"),
        ("1,0.5,0.5,0.1,0.1", "'1,0.5,0.5,0.1,0.1' is no line"),
        ("cell 0.5 0.5 0.1 0.1", "'cell 0.5 0.5 0.1 0.1' is no line"),
        ("1 0.5 nan 0.1 0.1", "'1 0.5 nan 0.1 0.1' is no line"),
        ("1 0.5 inf 0.1 0.1", "'1 0.5 inf 0.1 0.1' is no line"),
        ("1 0,5 0,5 0,1 0,1", "'1 0,5 0,5 0,1 0,1' is no line"),
        ("1.5 0.5 0.5 0.1 0.1", "'1.5 0.5 0.5 0.1 0.1' is no line"),
        ("1e300 0.5 0.5 0.1 0.1", "is no line"),
        ("# class x y w h", "'# class x y w h' is no line"),
    ],
)
def test_lines_that_are_none(tmp_path, line, message):
    root = small(tmp_path, BOX, f"{BOX}\n\n{line}\n{BOX}\n")
    said = refused(root, message)
    assert said.startswith("ROOT/labels/1.txt:3: ")
    assert said.endswith("; 1 of 4 lines are so: correct them")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["2 0.5 0.5 0.1 0.1"],
            "class 2 is none of 0 to 1, as ROOT/data.yaml has 2 classes (a, b); 1 of 1 boxes are so: ",
        ),
        (["-1 0.5 0.5 0.1 0.1", BOX], "class -1 is none of 0 to 1"),
        ([BOX, "2 0.5 0.5 0.1 0.1"], "1 of 2 boxes are so: correct either (classes count from 0)"),
    ],
)
def test_classes_that_there_are_not(tmp_path, lines, message):
    root = small(tmp_path, "\n".join(lines))
    assert refused(root, message).startswith(f"ROOT/labels/0.txt:{1 + (lines[0] == BOX)}: class ")


def test_pixels_and_other_forms_are_asked_about(tmp_path):
    root = small(tmp_path / "pixels", "0 30 20 12 16\n1 10 10 5 5\n", BOX)
    said = refused(
        root,
        "2 of 3 boxes have numbers outside 0 to 1, such as ROOT/labels/0.txt:1 [30, 20, 12, 16]; they must",
    )
    assert said.endswith("or set EvalDataset.box_format to xywh or xyxy where they are pixels")
    corners = "\n".join(f"0 {x / 10} {x / 20} {x / 10 + 0.2} {x / 20 + 0.3}" for x in range(3, 8))
    root = small(tmp_path / "corners", corners)
    said = refused(
        root, "3 of 5 boxes do not fit into their images as centre x, centre y, width, height from 0 to 1"
    )
    assert "are they x1, y1, x2, y2 from 0 to 1? Set EvalDataset.box_format to xyxy_normalised" in said
    assert len(load(root, box_format="xyxy_normalised").records[0].boxes) == 5
    starts = "\n".join(f"0 {x / 50} {x / 50} 0.3 0.4" for x in range(6))
    root = small(tmp_path / "starts", f"{starts}\n0 0.5 0.5 0.2 0.2\n0 0.6 0.5 0.2 0.2\n")
    assert (
        "are they x, y, width, height from 0 to 1? Set EvalDataset.box_format to xywh_normalised"
        in refused(root, "")
    )


def test_few_that_look_otherwise_are_warned_about(tmp_path, caplog):
    root = small(tmp_path, "\n".join([f"0 0.{n} 0.5 0.1 0.1" for n in range(1, 9)] + ["1 0.02 0.5 0.2 0.1"]))
    assert load(root).records[0].boxes[-1].tolist() == pytest.approx([0, 18, 7.2, 22])
    assert "1 of 9 boxes do not fit into their images as centre x" in caplog.text
    assert "labels/0.txt:9 [0.02, 0.5, 0.2, 0.1]" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train: images\nval: images\nnc: 3\nnames: [a, b]\n",
            "nc is 3, but names has 2 classes; correct either",
        ),
        (
            "train: images\nval: images\nnames: {0: a, 2: b}\n",
            "names must have the keys 0 to 1, each once, not 0, 2",
        ),
        ("train: images\nval: images\nnames: {1: a, 2: b}\n", "names must have the keys 0 to 1"),
        ("train: images\nval: images\nnames: {0: a, 0: b}\n", "data.yaml, line 3: 0 is there twice"),
        (
            "train: images\nval: images\nnames: {a: 0, b: 1}\n",
            "names must have the keys 0 to 1, each once, not a, b",
        ),
        ("train: images\nval: images\nnames: [a, a]\n", "names no class, one without a name, or one twice"),
        ("train: images\nval: images\nnames: []\n", "names no class"),
        ("train: images\nval: images\nnames: a b\n", "names must list the classes, not 'a b'"),
        ("train: images\nval: images\nnames: [[a], b]\n", "names must list the classes"),
        ("train: images\nval: images\n", "names must list the classes, not None"),
        (
            "train: images\nval: images\nnc: some\nnames: [a]\n",
            "nc must be the number of classes, not 'some'",
        ),
        ("train: images\nval: {a: b}\nnames: [a, b]\n", "val must be a folder, a list of images, or several"),
        (
            "train: images\nval: images\nvalid: images\nnames: [a, b]\n",
            "names the part val twice; leave one out",
        ),
        (
            "train: images\nval: nowhere\nnames: [a, b]\n",
            "val is 'nowhere', which is not there (looked for ROOT/nowhere)",
        ),
        ("train: images\nval: labels\nnames: [a, b]\n", "no image (.jpg"),
        ("train: images\nnames: [a, b]\n", "the data set has no part val, only train; add `val: …`"),
        ("train: images\nval:\nnames: [a, b]\n", "the data set has no part val"),
        (
            "train: images\nval: images\nkpt_shape: 3\nnames: [a, b]\n",
            "kpt_shape must be [points, numbers of each]",
        ),
        ("path: [a]\ntrain: images\nval: images\nnames: [a, b]\n", "path must be a folder, not ['a']"),
        ("train: [", "cannot be read as YAML"),
        ("- a\n", "describes no data set: its keys must be names, train and val"),
        ("", "describes no data set"),
        ("a: &a [b]\nc: &c [*a, *a]\ntrain: *c\nval: *a\nnames: [a]\n", "train must be a folder"),
        ("names: &n [*n]\ntrain: images\nval: images", "nested too deep"),
        ("\0", "data.yaml is no text"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, text, message):
    root = small(tmp_path, BOX)
    (root / "data.yaml").write_text(text)
    assert "ROOT/data.yaml" in refused(root, message) or message.startswith("no image")


def test_a_path_that_may_be_one_of_two(tmp_path):
    root = small(tmp_path / "cells", BOX)
    (root / "data.yaml").write_text("train: ../images\nval: ../images\nnames: [a, b]\n")
    assert len(load(root)) == 1  # Roboflow's: off by one level
    write_images(tmp_path / "images", 1)
    said = refused(root, "val is '../images', which may be ")
    assert said.endswith("/images or ROOT/images: write an absolute path")
    for folder in ("images/val", "val/images"):
        write_images(root / folder, 1)
    (root / "data.yaml").write_text("names: [a, b]\n")
    refused(root, "ROOT: the part val may be images/val or val/images: name one in data.yaml")


def test_the_last_folder_alone_is_not_enough(tmp_path):
    """`valid/images` is not there, and `images` holds other images."""
    root = small(tmp_path, BOX)
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [a, b]\n")
    refused(root, "val is '../valid/images', which is not there")


def test_labels_that_are_not_there(tmp_path, caplog):
    root = small(tmp_path / "none", None, None)
    said = refused(
        root, "EvalDataset: none of 2 images has a label file; that of ROOT/images/0.png would be "
    )
    assert said.endswith("ROOT/labels/0.txt, or beside it")
    root = small(tmp_path / "most", BOX, None, None)
    load(root)
    record = next(record for record in caplog.records if "2 of 3 images have no label file" in record.message)
    assert record.levelno == logging.WARNING


def test_images_that_are_not_there(tmp_path, caplog):
    root = small(tmp_path, BOX, BOX, BOX)
    (root / "images/2.png").unlink()
    (root / "labels/classes.txt").write_text("a\nb\n")
    assert len(load(root)) == 2
    assert f"1 label files have no image, such as {root}/labels/2.txt" in caplog.text
    (root / "images/1.png").unlink()
    refused(
        root,
        "2 label files have no image, such as ROOT/labels/1.txt; put the images there, or remove the labels",
    )
    (root / "val.txt").write_text("images/0.png\nimages/1.png\n")
    refused(
        root, "1 of 2 images of EvalDataset are missing, the first is ROOT/images/1.png", image_dir="val.txt"
    )


def test_lists(tmp_path, caplog):
    root = small(tmp_path, BOX, BOX)
    (root / "val.txt").write_text("./images/0.png\nimages\\0.png\n./images/1.PNG\n")
    caplog.set_level(logging.INFO)
    dataset = load(root, image_dir="val.txt")
    assert [record.path for record in dataset.records] == [f"{root}/images/{number}.png" for number in (0, 1)]
    assert "EvalDataset: 1 images are listed more than once: taken once" in caplog.text
    assert (
        f"2 images are found under another name than written, such as {root}/images/0.png for " in caplog.text
    )
    (root / "val.txt").write_text("\n")
    refused(root, "no image (", image_dir="val.txt")
    refused(
        root, "no images in ROOT/other; EvalDataset.image_dir names a folder or a list", image_dir="other"
    )


def test_images_that_cannot_be_read(tmp_path, caplog):
    root = small(tmp_path, *[BOX] * 101)
    (root / "images/7.png").write_bytes(b"no image")
    refused(root, "EvalDataset: 1 of 101 images cannot be read: image ROOT/images/7.png cannot be decoded")
    assert len(load(root, "TrainDataset", True)) == 100
    assert "TrainDataset: 1 of 101 images cannot be read" in caplog.text


def test_label_files_that_are_no_text(tmp_path):
    root = small(tmp_path, BOX)
    (root / "labels/0.txt").write_bytes(BOX.encode("utf-16"))
    refused(root, "label file ROOT/labels/0.txt cannot be read as text")
    (root / "labels/0.txt").write_text(f"{BOX}\r\n", "utf-8-sig")
    assert len(load(root).records[0].boxes) == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "ROOT says nothing of its classes: a YOLO data set has one of data.yaml, "),
        (
            {"a.yaml": "names: [a]\ntrain: x", "b.yml": "names: [a]\nval: x"},
            "has several files with class names (a.yaml, b.yml)",
        ),
        (
            {"obj.data": "classes = 2\ntrain = train.txt\n"},
            "names is None, and there is no obj.names beside it",
        ),
        (
            {"obj.data": "classes = 3\nnames = data/x.names\n", "x.names": "a\nb"},
            "classes is 3, but ROOT/x.names has 2",
        ),
        ({"classes.txt": "a\na\n"}, "names no class, one without a name, or one twice"),
        ({"notes.json": "{}"}, "has no list categories with ids and names, as Label Studio writes it"),
        (
            {"notes.json": '{"categories": [{"id": 1, "name": "a"}]}'},
            "categories must have the ids 0 to 0, each once",
        ),
        (
            {"images/_darknet.labels": "a", "labels/_darknet.labels": "b"},
            "the files _darknet.labels below ROOT name other",
        ),
        ({"obj.names": "a\nb\n"}, "ROOT/obj.names: the data set has no part val, only all"),
    ],
)
def test_folders_without_a_description(tmp_path, files, message):
    root = small(tmp_path, BOX)
    (root / "data.yaml").unlink()
    for name, text in files.items():
        (root / name).write_text(text)
    refused(root, message)


def test_folders_that_are_not_there(tmp_path):
    refused(tmp_path / "none", "no folder ROOT; EvalDataset.dataset_dir names the YOLO data set")
    refused(
        small(tmp_path, BOX),
        "no file ROOT/x.yaml; EvalDataset.anno_path names YOLO's data.yaml",
        anno_path="x.yaml",
    )
    assert yolo_class_names(DatasetSettings("yolo", str(tmp_path / "none"))) is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", "a", "X.classes: expected a list of names, found 'a'"),
        ("classes", [], "X.classes: expected a list of names, found []"),
        ("classes", ["a", " a"], "X.classes: a name is empty or there twice in ['a', ' a']"),
        ("classes", ["a", None], "X.classes: expected a list of names"),
        ("split", "valid", "X.split"),
        ("box_format", "xy", "X.box_format"),
    ],
)
def test_settings_that_cannot_be(key, value, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        DatasetSettings("yolo", "cells", section="X", **{key: value})


def test_no_object_at_all(tmp_path):
    refused(small(tmp_path, "", ""), "no image of ROOT has an object")


def test_boxes_without_area_are_dropped(tmp_path, caplog):
    root = small(tmp_path, f"{BOX}\n0 0.5 0.5 0 0.1\n")
    assert len(load_yolo(DatasetSettings("yolo", str(root)), True).records[0].boxes) == 1
    assert f"1 boxes without area, dropped; the first is {root}/labels/0.txt:2" in caplog.text
    assert yolo_line(1, 6, 8, 12, 16, 60, 40) == BOX


@pytest.mark.parametrize(("sixth", "said"), [("45", True), ("-0.1", True), ("0.93", False), ("1", False)])
def test_a_sixth_number_that_is_no_confidence_is_said(tmp_path, caplog, sixth, said):
    root = small(tmp_path, f"0 0.5 0.5 0.2 0.2\n1 0.4 0.4 0.1 0.1 {sixth}\n")
    assert len(load(root).records[0].boxes) == 2
    line = "1 of 2 lines have a sixth number that is no confidence from 0 to 1, such as"
    assert (line in caplog.text) == said and ("labels/0.txt:2 (an angle?" in caplog.text) == said


@pytest.mark.parametrize(("count", "first", "said"), [(20, 1, True), (20, 0, False), (5, 1, False)])
def test_classes_that_seem_to_count_from_1_are_said(tmp_path, caplog, count, first, said):
    lines = [f"1 0.{n + 10} 0.5 0.1 0.1" for n in range(count - 1)]
    root = small(tmp_path, "\n".join([f"{first} 0.3 0.3 0.1 0.1", *lines]))
    assert len(load(root).records[0].boxes) == count
    assert (f"none of {count} boxes is of class 0, " in caplog.text) == said


@pytest.mark.parametrize(
    "place", ["classes.txt", "labels/classes.txt", "labels/train/classes.txt", "obj.names"]
)
def test_another_list_of_classes_beside_the_one_that_counts_is_said(tmp_path, caplog, place):
    """LabelImg leaves one beside the labels it writes."""
    root = small(tmp_path, "0 0.5 0.5 0.2 0.2\n")
    names = yolo_class_names(DatasetSettings("yolo", str(root)))
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text("\n".join(names))
    assert load(root).class_names == names and "names the classes" not in caplog.text
    (root / place).write_text("\n".join(reversed(names)))
    assert load(root).class_names == names
    assert (
        f"{root / place} names the classes {', '.join(reversed(names))}, but {root / 'data.yaml'} "
        in caplog.text
    )
