"""One place finds image files for every format: other slashes, case, Unicode forms and leading folders."""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.files import find_files, read_lines
from picoquant.data.formats.voc.load import load_voc
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from tests.data.coco_sets import coco_content, write_images, write_set
from tests.data.formats.test_voc import write_voc, xml

COMPOSED, APART = (unicodedata.normalize(form, "müll.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("there", "written", "found"),
    [
        ("a.jpg", "a.jpg", "a.jpg"),
        ("a.JPG", "a.jpg", "a.JPG"),
        ("a.jpg", "A.JPG", "a.jpg"),
        ("sub/a.jpg", "sub/a.jpg", "sub/a.jpg"),
        ("sub/a.jpg", "sub\\a.jpg", "sub/a.jpg"),
        ("sub/a.jpeg", ".\\sub\\a.JPEG", "sub/a.jpeg"),
        ("a b.jpg", "C:\\Users\\me\\cells\\a b.jpg", "a b.jpg"),
        ("train/a.jpg", "D:\\cells\\train\\a.jpg", "train/a.jpg"),
        ("a.jpg", "/home/somebody/cells/a.jpg", "a.jpg"),
        ("obj_train_data/a.jpg", "data/obj_train_data/a.jpg", "obj_train_data/a.jpg"),
        (COMPOSED, APART, COMPOSED),
        (APART, COMPOSED, APART),
        ("a\\b.jpg", "a\\b.jpg", "a\\b.jpg"),  # a backslash is a letter here, where the file is called so
        ("a.jpg", "b.jpg", None),
        ("a.png", "a.jpg", None),
        ("a.jpg", "", None),
        ("a.jpg", "sub/", None),
    ],
)
def test_a_file_is_found_by_what_is_written(tmp_path, there, written, found):
    (tmp_path / there).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / there).write_bytes(b"")
    result = find_files(tmp_path, [written])
    assert result.missing == (frozenset() if found else {0})
    assert result.paths == [os.path.join(tmp_path, found or written)]
    assert result.renamed == ((0,) if found and found != written else ())


def test_as_written_wins_and_of_several_none_is_taken(tmp_path):
    for name in ("a.jpg", "A.jpg", "b.JPG", "B.jpg"):
        (tmp_path / name).write_bytes(b"")
    result = find_files(tmp_path, ["a.jpg", "A.jpg", "b.jpg"])
    assert [Path(path).name for path in result.paths] == ["a.jpg", "A.jpg", "b.jpg"]
    assert result.missing == {2} and result.renamed == ()


def test_one_file_is_not_taken_for_two_names(tmp_path):
    (tmp_path / "0001.jpg").write_bytes(b"")
    result = find_files(tmp_path, ["cam1/0001.jpg", "cam2/0001.jpg"])
    assert result.missing == {0, 1}
    # Whoever writes the file's own name twice means it twice.
    assert find_files(tmp_path, ["0001.jpg", "0001.jpg"]).missing == frozenset()
    assert find_files(tmp_path, ["0001.jpg", "cam2/0001.jpg"]).missing == {1}


def test_coco_with_other_slashes_and_case(tmp_path, caplog):
    names = write_images(tmp_path / "images" / "part", 2)
    content = coco_content([f"part\\{name.upper()}" for name in names])
    (tmp_path / "a.json").write_text(json.dumps(content), "utf-8-sig")
    caplog.set_level(logging.INFO)
    dataset = load_coco(DatasetSettings("coco", str(tmp_path), "images", "a.json"), True)
    assert [record.path for record in dataset.records] == [
        str(tmp_path / "images/part" / name) for name in names
    ]
    said = "2 images are found under another name than written, such as "
    assert f"{said}{tmp_path}/images/part/0.png for part\\0.PNG" in caplog.text


def test_a_missing_image_is_an_error_as_before(tmp_path):
    settings = write_set(tmp_path, content=coco_content(["0.png", "nowhere\\7.png"]))
    with pytest.raises(
        DataError, match=r"1 of 2 images of TrainDataset are missing, the first is .*nowhere\\7.png"
    ):
        load_coco(settings, True)


@pytest.mark.parametrize(
    ("image", "annotation", "line"),
    [
        ("JPEGImages/cell 1.png", "Annotations/cell 1.xml", "cell 1"),
        ("JPEGImages/cell 1.png", "Annotations/cell 1.xml", "cell 1 -1"),
        ("JPEGImages/cell 1.png", "Annotations/cell 1.xml", "cell 1.png"),
        ("JPEGImages/cell 1.png", "Annotations/cell 1.xml", "JPEGImages/cell 1.png Annotations/cell 1.xml"),
        (
            "JPEGImages/cell 1.png",
            "Annotations/cell 1.xml",
            "JPEGImages\\cell 1.png\tAnnotations\\cell 1.xml",
        ),
        (
            "JPEGImages/cell 1.PNG",
            "Annotations/cell 1.XML",
            "./JPEGImages/cell 1.png ./Annotations/cell 1.xml",
        ),
        ("JPEGImages/a/7.png", "Annotations/a/7.xml", "a/7"),
        ("JPEGImages/a/7.png", "Annotations/a/7.xml", "a\\7"),
        ("JPEGImages/a/7.png", "Annotations/7.xml", "7"),
        ("JPEGImages/7.PNG", "Annotations/7.xml", "7"),
        ("JPEGImages/7.png", "Annotations/7.xml", "7  0"),
        ("JPEGImages/7.v2.png", "Annotations/7.v2.xml", "7.v2"),
        ("JPEGImages/IMG_7.png", "Annotations/7.xml", "7"),  # by the XML file's filename
    ],
)
def test_voc_names(tmp_path, image, annotation, line):
    write_images(tmp_path / "JPEGImages", 1)
    for path in (image, annotation):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "JPEGImages" / "0.png").rename(tmp_path / image)
    text = xml(("wheel", 10, 5, 30, 20, 0))
    text = text.replace("<size>", f"<filename>C:\\shots\\{Path(image).name}</filename><size>")
    (tmp_path / annotation).write_text(text)
    (tmp_path / "train.txt").write_text(f"{line}\r\n\r\n", "utf-8-sig")
    dataset = load_voc(DatasetSettings("voc", str(tmp_path), anno_path="train.txt"), True)
    assert [Path(record.path) for record in dataset.records] == [tmp_path / image]
    assert np.array_equal(dataset.records[0].boxes, [[10, 5, 30, 20]])


def test_voc_without_a_list(tmp_path, caplog):
    settings = write_voc(tmp_path, [xml(("axle", 1, 1, 9, 9, 0)), xml(("wheel", 10, 5, 30, 20, 0))])
    write_images(tmp_path / "JPEGImages", 3)
    dataset = load_voc(DatasetSettings("voc", str(tmp_path), anno_path="Annotations"), True)
    assert [Path(record.path).name for record in dataset.records] == ["0.png", "1.png"]
    said = "1 of 3 images have no annotation file and are left out, such as "
    assert f"{said}{tmp_path}/JPEGImages/2.png (no XML file in {tmp_path}/Annotations)" in caplog.text
    assert dataset.class_names == load_voc(settings, True).class_names == ("axle", "wheel")
    (tmp_path / "Annotations" / "other.xml").write_text(
        xml().replace("<size>", "<filename>1.png</filename><size>")
    )
    with pytest.raises(DataError, match=r"1.xml and .*other.xml both annotate .*1.png: remove one"):
        load_voc(DatasetSettings("voc", str(tmp_path), anno_path="Annotations"), True)


def test_voc_sizes_that_the_tool_did_not_know(tmp_path):
    settings = write_voc(tmp_path, [xml(("axle", 1, 1, 80, 9, 0), size=(0, 0))])
    record = load_voc(settings, True).records[0]
    assert (record.width, record.height, record.boxes.tolist()) == (60, 40, [[1, 1, 60, 9]])


def test_classes_in_the_settings(tmp_path):
    settings = write_voc(tmp_path, [xml(("axle", 1, 1, 9, 9, 0))])
    named = DatasetSettings("voc", settings.dataset_dir, anno_path="train.txt", classes=["wheel", "axle"])
    assert load_voc(named, True).records[0].classes.tolist() == [1]
    with pytest.raises(
        DataError, match=r"class 'axle' is not in TrainDataset.classes \(did you mean axles\?\); add"
    ):
        load_voc(DatasetSettings("voc", settings.dataset_dir, anno_path="train.txt", classes=["axles"]), True)


@pytest.mark.parametrize("content", [b"a\0b", b"\xff\xfea\0", b"\x80"])
def test_a_list_that_is_no_text(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"list.txt (is no text|cannot be read as text)"):
        read_lines(tmp_path / "list.txt", "X.anno_path")
