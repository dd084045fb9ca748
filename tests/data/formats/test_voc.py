"""load_voc in both layouts, load_folder, and load_dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.load import load_dataset, load_folder
from picoquant.data.formats.voc.load import VOC_CLASSES, load_voc
from picoquant.data.settings import DatasetSettings
from picoquant.errors import ConfigError, DataError
from tests.data.coco_sets import write_images


def xml(*objects: tuple, size: tuple[int, int] = (40, 60)) -> str:
    """objects: (name, xmin, ymin, xmax, ymax, difficult)."""
    inner = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2, difficult in objects
    )
    return f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height></size>{inner}</annotation>"


def write_voc(root: Path, texts: list[str], layout: str = "voc") -> DatasetSettings:
    write_images(root / "JPEGImages", len(texts))
    (root / "Annotations").mkdir()
    for number, text in enumerate(texts):
        (root / "Annotations" / f"{number}.xml").write_text(text)
    if layout == "voc":
        lines = [str(number) for number in range(len(texts))]
    else:
        lines = [f"JPEGImages/{number}.png Annotations/{number}.xml" for number in range(len(texts))]
    (root / "train.txt").write_text("\n".join(lines) + "\n")
    return DatasetSettings("voc", dataset_dir=str(root), anno_path="train.txt")


@pytest.mark.parametrize("layout", ["voc", "paddle"])
def test_both_layouts_and_sorted_names(tmp_path, layout):
    texts = [xml(("wheel", 10, 5, 30, 20, 0)), xml(("axle", 1, 1, 80, 20, 1), ("axle", 70, 1, 80, 9, 0))]
    dataset = load_voc(write_voc(tmp_path, texts, layout), training=True)
    assert dataset.class_names == ("axle", "wheel")
    assert dataset.records[0].boxes.tolist() == [[10, 5, 30, 20]]
    assert dataset.records[0].classes.tolist() == [1]
    # The image is 60 wide: one box clipped, one wholly outside.
    assert dataset.records[1].boxes.tolist() == [[1, 1, 60, 20]]
    assert (dataset.repairs.clipped_boxes, dataset.repairs.dropped_boxes) == (1, 1)
    assert not dataset.records[1].is_crowd.any()
    assert Path(dataset.records[1].path).is_file()


def test_difficult_objects_are_not_counted_in_evaluation(tmp_path):
    texts = [xml(("wheel", 10, 5, 30, 20, 1), ("wheel", 0, 0, 9, 9, 0))]
    truth = load_voc(write_voc(tmp_path, texts), training=False).ground_truth()
    assert [entry["iscrowd"] for entry in truth["annotations"]] == [1, 0]
    assert truth["annotations"][0]["bbox"] == [10, 5, 20, 15]
    assert truth["categories"] == [{"id": 1, "name": "wheel"}]
    assert truth["images"] == [{"id": 1, "file_name": "0.png", "width": 60, "height": 40}]


def test_classes_of_the_challenge_and_of_a_label_list(tmp_path):
    settings = write_voc(tmp_path, [xml(("cow", 10, 5, 30, 20, 0))])
    assert load_voc(settings, training=True).class_names == VOC_CLASSES
    (tmp_path / "labels.txt").write_text("pig\ncow\n")
    listed = DatasetSettings("voc", dataset_dir=str(tmp_path), anno_path="train.txt", label_list="labels.txt")
    dataset = load_voc(listed, training=True)
    assert dataset.class_names == ("pig", "cow")
    assert dataset.records[0].classes.tolist() == [1]
    (tmp_path / "labels.txt").write_text("pig\ncrow\n")
    with pytest.raises(DataError, match="0.xml: class 'cow' is not in .*labels.txt.*mean crow.*add it there"):
        load_voc(listed, training=True)


def test_classes_of_the_other_half_are_numbered_too(tmp_path):
    settings = write_voc(tmp_path, [xml(("wheel", 10, 5, 30, 20, 0)), xml(("axle", 1, 1, 9, 9, 0))])
    (tmp_path / "train.txt").write_text("0\n")
    assert load_voc(settings, training=True).class_names == ("axle", "wheel")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "train.txt").unlink(), "no annotation file .*train.txt"),
        (lambda root: (root / "train.txt").write_text(""), "train.txt is empty"),
        (lambda root: (root / "Annotations" / "0.xml").unlink(), "cannot read .*0.xml: No such file"),
        (lambda root: (root / "Annotations" / "0.xml").write_text("<a>"), "0.xml is no VOC annotation"),
        (
            lambda root: (root / "Annotations" / "0.xml").write_text("<a>\n</a>"),
            r"0.xml is no VOC annotation \(line 1: <a> has no <size>\); correct it",
        ),
        (
            lambda root: (root / "Annotations" / "0.xml").write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a/>"),
            "declares entities",
        ),
        (
            lambda root: (root / "JPEGImages" / "0.png").unlink(),
            "1 of 1 images .* missing, .*/0",
        ),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, change, message):
    settings = write_voc(tmp_path, [xml(("wheel", 10, 5, 30, 20, 0))])
    change(tmp_path)
    with pytest.raises(DataError, match=message):
        load_voc(settings, training=True)


SOUND = """<annotation>
<size><width>60</width>
<height>40</height></size>
<object><name>wheel</name><bndbox>
<xmin>1</xmin><ymin>2</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object>
<object><name>axle
</name>
<bndbox><xmin>1</xmin><ymin>2</ymin>
<xmax>20</xmax><ymax>30</ymax></bndbox></object>
</annotation>"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<height>40</height>", "", "line 2: <size> has no <height>"),
        ("<height>40</height>", "<height/>", "line 3: <height> of <size> is empty"),
        ("<height>40</height>", "<height>0</height>", "line 2: <size> is 60x0: write the image's width and"),
        ("<name>axle\n</name>", "", "line 6: <object> has no <name>"),
        ("axle", " ", "line 6: <name> of <object> is empty"),
        ("bndbox><xmin>1</xmin><ymin>2</ymin>\n<xmax>20</xmax><ymax>30</ymax></bndbox", "a/", "has no <bndbox>"),
        ("\n<xmax>20</xmax>", "\n", "line 8: <bndbox> has no <xmax>"),
        ("\n<xmax>20</xmax>", "\n<xmax>2o</xmax>", "line 9: <xmax> of <bndbox> is '2o', no number"),
        ("\n<xmax>20</xmax>", "\n<xmax>nan</xmax>", "line 9: <xmax> of <bndbox> is 'nan', no number"),
        ("<annotation>", "<annotation", "not well-formed"),
        ("</height></size>", "</height></size><size><width>6</width></size>", "<annotation> has several <size>"),
        ("\n<xmax>20</xmax>", "\n<xmax>20</xmax><xmax>9</xmax>", "line 9: <bndbox> has several <xmax>"),
        ("</annotation>", "<bndbox/></annotation>", "line 10: <bndbox> must be an <object> of <annotation> or its"),
    ],
)  # fmt: skip
def test_an_xml_file_is_refused_by_line_and_element(tmp_path, old, new, said):
    settings = write_voc(tmp_path, [SOUND])
    assert load_voc(settings, training=True).class_names == ("axle", "wheel")
    (tmp_path / "Annotations/0.xml").write_text(SOUND.replace(old, new))
    with pytest.raises(DataError) as caught:
        load_voc(settings, training=True)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'Annotations/0.xml'} is no VOC annotation (") and said in message
    assert message.endswith("); correct it or take it off the list") and "NoneType" not in message


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("object>", "Object>"),
        lambda text: text.replace("<object>", "<objects><object>", 1).replace("</ann", "</objects></ann"),
        lambda text: text.replace("object>", "item>"),
    ],
)
def test_objects_that_stand_where_none_is_looked_for_are_not_passed_over(tmp_path, change):
    with pytest.raises(DataError, match="must be an <object> of <annotation> or its <bndbox>, written so"):
        load_voc(write_voc(tmp_path, [change(SOUND), SOUND]), training=True)


def test_parts_of_objects_are_no_objects(tmp_path):
    part = "<part><name>hub</name><bndbox><xmin>3</xmin></bndbox></part></object>"
    dataset = load_voc(write_voc(tmp_path, [SOUND.replace("</object>", part, 1)]), training=True)
    assert len(dataset.records[0].boxes) == 2 and dataset.class_names == ("axle", "wheel")


@pytest.mark.parametrize("layout", ["name", "flag", "paths"])
def test_names_with_spaces(tmp_path, layout):
    settings = write_voc(tmp_path, [xml(("red  cell", 10, 5, 30, 20, 0)), xml(("axle", 1, 1, 8, 9, 0))])
    for number, name in enumerate(("my first image", "photo 1")):
        (tmp_path / f"JPEGImages/{number}.png").rename(tmp_path / f"JPEGImages/{name}.png")
        (tmp_path / f"Annotations/{number}.xml").rename(tmp_path / f"Annotations/{name}.xml")
    line = {"name": "{0}", "flag": "{0}  1", "paths": "JPEGImages/{0}.png Annotations/{0}.xml"}[layout]
    lines = [line.format(name) for name in ("my first image", "photo 1")]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    dataset = load_voc(settings, training=True)
    assert [Path(record.path).name for record in dataset.records] == ["my first image.png", "photo 1.png"]
    assert dataset.class_names == ("axle", "red  cell")
    (tmp_path / "Annotations/my first image.xml").unlink()
    with pytest.raises(DataError, match="cannot read .*/Annotations/my first image.xml: No such file"):
        load_voc(settings, training=True)
    (tmp_path / "labels.txt").write_text("axle\nred cell\n")
    (tmp_path / "train.txt").write_text(lines[1])
    listed = DatasetSettings("voc", dataset_dir=str(tmp_path), anno_path="train.txt", label_list="labels.txt")
    (tmp_path / "Annotations/photo 1.xml").write_text(xml(("red  cell", 10, 5, 30, 20, 0)))
    with pytest.raises(
        DataError, match=r"photo 1.xml: class 'red  cell' is not in .* \(did you mean red cell\?\)"
    ):
        load_voc(listed, training=True)


def test_bccd_as_voc_is_bccd_as_coco(shared):
    root = str(shared / "datasets" / "bccd")
    voc = load_voc(DatasetSettings("voc", root, anno_path="ImageSets/Main/val.txt"), training=True)
    coco = load_coco(DatasetSettings("coco", root, "JPEGImages", "instances_val.json"), training=True)
    theirs = {Path(record.path).name: record for record in coco.records}
    assert len(voc) == len(coco) == 87
    for record in voc.records:
        other = theirs[Path(record.path).name]
        assert np.array_equal(record.boxes, other.boxes)
        assert [voc.class_names[label] for label in record.classes] == [
            coco.class_names[label] for label in other.classes
        ]


def test_folder_of_images(tmp_path):
    write_images(tmp_path / "b", 2)
    write_images(tmp_path / "a" / "c", 1)
    (tmp_path / "notes.txt").write_text("no image")
    settings = DatasetSettings("folder", dataset_dir=str(tmp_path))
    dataset = load_folder(settings)
    assert [str(Path(record.path).relative_to(tmp_path)) for record in dataset.records] == [
        "a/c/0.png",
        "b/0.png",
        "b/1.png",
    ]
    with pytest.raises(ConfigError, match="format folder cannot be trained .*; known: coco, voc"):
        load_dataset(settings, training=True)
    with pytest.raises(DataError, match="no image"):
        load_folder(DatasetSettings("folder", dataset_dir=str(tmp_path / "a"), image_dir="none"))


def test_load_dataset_takes_the_loader_of_the_format(tmp_path):
    settings = write_voc(tmp_path, [xml(("wheel", 10, 5, 30, 20, 0))])
    assert load_dataset(settings, training=True).format == "voc"


def test_an_option_that_names_no_images_is_named_itself(tmp_path):
    asked = DatasetSettings(format="folder", image_dir=str(tmp_path / "photos"), section="--fidelity")
    with pytest.raises(DataError, match="no image folder .*photos; --fidelity must name one$"):
        load_folder(asked)
    (tmp_path / "photos/sub").mkdir(parents=True)
    with pytest.raises(DataError, match="in .*photos or below it; --fidelity must name a folder with some$"):
        load_folder(asked)


@pytest.mark.parametrize("layout", ["voc", "paths"])
def test_a_filename_of_another_image_is_said(tmp_path, caplog, layout):
    """PaddleDetection does not look at it; the file's own name counts, and a list's pairs."""
    texts = [
        xml(("a", 5, 5, 20, 20, 0)).replace("<size>", f"<filename>{said}</filename><size>")
        for said in ("1.png", "C:\\0.JPG", "gone.jpg", "3")
    ]
    dataset = load_voc(write_voc(tmp_path, texts, layout), training=True)
    assert [record.path for record in dataset.records] == [f"{tmp_path}/JPEGImages/{n}.png" for n in range(4)]
    (line,) = [text for text in caplog.messages if "<filename>" in text]
    assert "2 of 4 XML files have the <filename> of another image, such as " in line
    assert f"Annotations/0.xml, which says 1.png and is taken for {tmp_path}/JPEGImages/0.png" in line
