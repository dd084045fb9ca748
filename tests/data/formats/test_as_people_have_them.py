"""Data sets as people bring them: what is meant is read, what cannot be is said; nothing goes missing in silence."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.files import files_below
from picoquant.data.formats.folder import recognise
from picoquant.data.formats.ids import mark_of
from picoquant.data.formats.yolo.load import load_yolo
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from tests.data.coco_sets import coco_content, write_images, write_set


def changed(**values):
    """The usual content with these keys in each annotation."""
    content = coco_content([f"{number}.png" for number in range(4)])
    content["annotations"] = [{**entry, **values} for entry in content["annotations"]]
    return content


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (0, False), (1, True), (None, False), (True, True), (0.0, False), ("0", False), ("1", True), (" False ", False),
        ("true", True), ("", False), (2, None), ("maybe", None), ([], None), ({}, None),
    ],
)  # fmt: skip
def test_marks(value, meant):
    assert mark_of(value) is meant


@pytest.mark.parametrize("key", ["iscrowd", "ignore"])
def test_marks_as_texts(tmp_path, key):
    dataset = load_coco(write_set(tmp_path, content=changed(**{key: "0"})), True)
    assert [len(record.boxes) for record in dataset.records] == [1] * 4
    assert not any(record.is_crowd.any() for record in dataset.records)
    refused = write_set(tmp_path, content=changed(**{key: "perhaps"}))
    with pytest.raises(DataError, match=rf"annotation 1 of image 1 has {key} 'perhaps'; it must be 0 or 1"):
        load_coco(refused, True)


def test_areas_of_none(tmp_path, caplog):
    with pytest.raises(
        DataError, match=r"4 of 4 boxes have sides, but an area of 0 or less .*take `area` out"
    ):
        load_coco(write_set(tmp_path, content=changed(area=0)), True)
    content = changed()
    content["annotations"][2]["area"] = -1
    dataset = load_coco(write_set(tmp_path, content=content), True)
    assert len(dataset) == 3
    assert "1 of 4 boxes have sides, but an area of 0 or less" in caplog.text
    assert "annotation 3 of image 2.png [10, 5, 20, 15]: dropped" in caplog.text


@pytest.mark.parametrize("box", [[50, 30, 20, 20], [62.5, 166, 187, 333], [-9, 5, 20, 15]])
def test_boxes_of_images_of_another_size(tmp_path, caplog, box):
    """On images of 60 x 40: boxes that reach out by a sixth, and numbers of 0 to 1000, of which nothing is left."""
    settings = write_set(tmp_path, content=changed(bbox=box, area=box[2] * box[3]))
    asked = "4 of 4 boxes reach far out .* annotation 1 of .*image of 60x40.: were they drawn on images of another size"
    if box[0] == 50:
        asked = "4 of 4 boxes do not fit .*: are they centre x, centre y"
    with pytest.raises(DataError, match=asked):
        load_coco(settings, True)
    settings = replace(settings, box_format="xywh")
    if box[1] == 166:
        with pytest.raises(DataError, match="no image of"):
            load_coco(settings, True)
    else:
        assert len(load_coco(settings, True)) == 4
        assert "4 boxes outside their image, clipped; the first is annotation 1 of image 0.png" in caplog.text


@pytest.mark.parametrize("factor", [2, 0.5])
def test_images_that_were_resized_after_they_were_annotated(tmp_path, factor):
    content = changed()
    for image in content["images"]:
        image.update(width=int(60 * factor), height=int(40 * factor))
    settings = write_set(tmp_path, content=content)
    with pytest.raises(DataError, match=r"4 of 4 images have another size .* were the images resized after"):
        load_coco(settings, True)
    kept = load_coco(replace(settings, box_format="xywh"), True)
    assert kept.records[0].boxes.tolist() == [[10, 5, 30, 20]]


def test_names_that_are_none(tmp_path):
    for name in (None, "  ", []):
        content = changed()
        content["categories"][0]["name"] = name
        with pytest.raises(DataError, match="category 7 has the name .*; give each class its own"):
            load_coco(write_set(tmp_path, content=content), True)


def test_names_alike_and_images_listed_twice_are_said(tmp_path, caplog):
    content = changed()
    content["categories"] = [{"id": 7, "name": "Cat"}, {"id": 3, "name": " cat"}]
    content["images"][1]["file_name"] = "./0.png"
    caplog.set_level(logging.WARNING)
    load_coco(write_set(tmp_path, content=content), True)
    assert "'Cat' and ' cat' are classes of their own" in caplog.text
    assert "1 images are listed more than once, such as" in caplog.text and "0.png (2 times)" in caplog.text


@pytest.fixture
def yolo(tmp_path):
    """Four images each in train and val, a box on each."""
    for part in ("train", "val"):
        names = write_images(tmp_path / "images" / part, 4)
        (tmp_path / "labels" / part).mkdir(parents=True)
        for name in names:
            (tmp_path / "labels" / part / name).with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell]\n")
    return tmp_path


def boxes(folder):
    """How many boxes are on each training image."""
    settings = DatasetSettings("yolo", str(folder), section="TrainDataset", allow_empty=True)
    return [len(record.boxes) for record in load_yolo(settings, True).records]


def test_label_files_in_other_case_and_other_unicode_form(yolo):
    (yolo / "labels/train/0.txt").rename(yolo / "labels/train/0.TXT")
    (yolo / "images/train/1.png").rename(yolo / "images/train/u\u0308ber.png")
    (yolo / "labels/train/1.txt").rename(yolo / "labels/train/\u00fcber.txt")
    assert boxes(yolo) == [1, 1, 1, 1]
    (yolo / "labels").rename(yolo / "LABELS")
    assert boxes(yolo) == [1, 1, 1, 1]


def test_linked_folders_are_entered_once_and_never_upwards(yolo):
    shutil.move(yolo / "images/train", yolo / "elsewhere")
    (yolo / "images/train").mkdir()
    (yolo / "images/train/sub").symlink_to(yolo / "elsewhere")
    (yolo / "images/train/again").symlink_to(yolo / "elsewhere")
    (yolo / "images/train/up").symlink_to(yolo / "images")  # val is in there
    shutil.move(yolo / "labels/train", yolo / "away")
    (yolo / "labels/train").mkdir()
    (yolo / "labels/train/again").symlink_to(yolo / "away")
    assert boxes(yolo) == [1, 1, 1, 1]


def test_what_systems_leave_behind_is_passed_by(yolo):
    for name in ("images/train/._0.png", "labels/train/._0.txt"):
        (yolo / name).write_bytes(b"\0\5\26\7")
    for folder in (".ipynb_checkpoints", "__MACOSX"):
        shutil.copytree(yolo / "images/val", yolo / "images/train" / folder)
    assert boxes(yolo) == [1, 1, 1, 1]
    assert sorted(files_below(yolo / "images/train", (".png",)))[0] == str(yolo / "images/train/0.png")


def test_two_images_with_one_label_file_are_said(yolo, caplog):
    shutil.copy(yolo / "images/val/0.png", yolo / "images/train/0.PNG")
    assert boxes(yolo) == [1] * 5
    assert "1 images have the label file of another image, such as" in caplog.text


VOC = (
    "<annotation><size><width>60</width><height>40</height></size><object><name>{}</name>{}<bndbox><xmin>9</xmin>\
<ymin>9</ymin><xmax>30</xmax><ymax>30</ymax></bndbox></object></annotation>"
)


def write_voc(folder, suffix=".xml", name="cell", more="", encoding="utf-8", declared=""):
    """Four images in JPEGImages and their XML files in Annotations."""
    for image in write_images(folder / "JPEGImages", 4):
        path = (folder / "Annotations" / image).with_suffix(suffix)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((declared + VOC.format(name, more)).encode(encoding))


def test_voc_in_other_case_and_encodings(tmp_path):
    write_voc(tmp_path / "upper", ".XML")
    assert len(recognise(tmp_path / "upper").load("all", True)) == 4
    for encoding in ("gbk", "gb2312", "big5", "shift_jis"):
        write_voc(
            tmp_path / encoding, "", "田", "", encoding, f'<?xml version="1.0" encoding="{encoding}"?>\n'
        )
        for path in (tmp_path / encoding / "Annotations").iterdir():
            path.rename(f"{path}.xml")
        assert recognise(tmp_path / encoding).class_names == ("田",)
    write_voc(tmp_path / "broken", ".xml", "田", "", "utf-8", '<?xml version="1.0" encoding="gb2312"?>')
    (tmp_path / "broken/Annotations/0.xml").write_bytes(
        b'<?xml version="1.0" encoding="gbk"?><a>\xff\xff</a>'
    )
    with pytest.raises(DataError, match=r"0.xml is no VOC annotation"):
        recognise(tmp_path / "broken")


def test_voc_marks_as_words(tmp_path):
    write_voc(tmp_path, more="<difficult>True</difficult>")
    with pytest.raises(DataError, match="no image of .* has an object"):
        recognise(tmp_path).load("all")  # difficult ones are not counted
    assert len(recognise(tmp_path).load("all", True)) == 4


def test_a_voc_name_that_may_be_two_images(tmp_path):
    write_voc(tmp_path)
    shutil.copy(tmp_path / "JPEGImages/1.png", tmp_path / "JPEGImages/1.bmp")
    with pytest.raises(DataError, match=r"1 may be .*1.bmp or .*1.png: write each image with its folder"):
        recognise(tmp_path).load("all", True)
