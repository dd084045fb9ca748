"""Boxes whose numbers mean something else than the format says, and images of another size than annotated."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.voc.load import load_voc
from picoquant.data.settings import DatasetSettings
from picoquant.errors import ConfigError, DataError
from tests.data.coco_sets import annotation, coco_content, write_set
from tests.data.formats.test_voc import write_voc, xml

NAMES = ["0.png", "1.png"]  # 60 x 40
# x y width height: the truth of each test here.
BOXES = [[10, 5, 20, 15], [40, 20, 18, 18], [30, 2, 25, 30], [0, 0, 60, 40], [50, 30, 8, 8], [2, 25, 12, 10]]


def corners(box):
    x, y, width, height = box
    return [x, y, x + width, y + height]


def parts(box):
    return [side / length for side, length in zip(box, (60, 40, 60, 40))]


def content_of(boxes, names=NAMES, size=(40, 60)):
    content = coco_content(names, size)
    content["annotations"] = [
        annotation(place + 1, place % len(names) + 1, 7, box) for place, box in enumerate(boxes)
    ]
    return content


def load(tmp_path, boxes, training=False, **settings):
    return load_coco(write_set(tmp_path, 2, content_of(boxes), **settings), training)


def boxes_of(dataset):
    """What is trained on and what COCO counts, both as x y width height in the order of the truth above."""
    trained = sorted(
        [round(float(v), 2) for v in (x1, y1, x2 - x1, y2 - y1)]
        for record in dataset.records
        for x1, y1, x2, y2 in record.boxes.tolist()
    )
    counted = [[round(v, 2) for v in entry["bbox"]] for entry in dataset.ground_truth()["annotations"]]
    assert trained == sorted(counted)
    return counted


@pytest.mark.parametrize(
    ("change", "asked", "box_format"),
    [
        (
            corners,
            "boxes do not fit into their images as x, y, width, height, .*: are they x1, y1, x2, y2?",
            "xyxy",
        ),
        (parts, "6 of 6 boxes are below one pixel, such as .*: are they 0 to 1, parts of", "xywh_normalised"),
        (
            lambda box: parts(corners(box)),
            "6 of 6 boxes are below one pixel.*are they 0 to 1",
            "xyxy_normalised",
        ),
    ],
)
def test_what_most_boxes_look_like_is_asked_and_read_when_it_is_said(tmp_path, change, asked, box_format):
    changed = [change(box) for box in BOXES]
    with pytest.raises(DataError, match=f"instances.json: .*{asked}") as caught:
        load(tmp_path / "asked", changed)
    text = str(caught.value)
    assert f"Set TrainDataset.box_format to {box_format} (" in text and "or to xywh if" in text
    assert "annotation " in text and "of image" in text and "\n" not in text
    dataset = load(tmp_path / "said", changed, box_format=box_format)
    assert boxes_of(dataset) == [pytest.approx(box, abs=0.02) for box in BOXES]
    areas = [entry["area"] for entry in dataset.ground_truth()["annotations"]]
    assert areas == pytest.approx([width * height for _, _, width, height in BOXES], rel=1e-3)


@pytest.mark.parametrize("change", [corners, parts])
def test_a_format_that_is_said_is_not_asked_about(tmp_path, change):
    dataset = load(tmp_path, [change(box) for box in BOXES], box_format="xywh")
    assert len(dataset.ground_truth()["annotations"]) == 6


def test_corners_whose_stated_area_shows_it(tmp_path):
    # Small boxes in the upper left: inside the image in either meaning.
    truth = [[3, 2, 6, 8], [10, 5, 9, 6], [4, 9, 12, 8]]
    content = content_of([corners(box) for box in truth])
    for entry, (_, _, width, height) in zip(content["annotations"], truth):
        entry["area"] = width * height
    with pytest.raises(DataError, match="3 of 3 boxes do not fit .* are they x1, y1, x2, y2?"):
        load_coco(write_set(tmp_path, 2, content), training=False)


def test_a_few_of_another_kind_are_one_line_each(tmp_path, caplog):
    boxes = [*BOXES, [0.2, 0.3, 0.5, 0.5], corners([40, 20, 18, 18]), [30, 20, -12, -9]]
    with caplog.at_level(logging.WARNING, "picoquant"):
        dataset = load(tmp_path, boxes)
    lines = [record.message for record in caplog.records]
    small = "1 of 9 boxes are below one pixel, such as annotation 7 of image 0.png [0.2, 0.3, 0.5, 0.5]"
    assert lines[0].startswith(f"TrainDataset: {small}: are they 0 to 1")
    assert (
        "1 of 9 boxes do not fit into their images as x, y, width, height, such as annotation 8 of image 1.png"
        in (lines[1])
    )
    assert lines[1].endswith(
        "[40, 20, 58, 38]: are they x1, y1, x2, y2? They are taken as x, y, width, height"
    )
    assert lines[2] == (
        "TrainDataset: 1 of 9 boxes have a negative width or height, such as annotation 9 of image 0.png "
        "[30, 20, -12, -9]: read from the other corner"
    )
    assert dataset.ground_truth()["annotations"][8]["bbox"] == [18, 11, 12, 9]
    assert dataset.ground_truth()["annotations"][8]["area"] == 108


@pytest.mark.parametrize(
    ("box", "read"),
    [
        ([30, 20, -12, 9], [18, 20, 12, 9]),
        ([30, 20, 12, -9], [30, 11, 12, 9]),
        ([30, 20, -12, -9], [18, 11, 12, 9]),
    ],
)
def test_negative_sides_are_read_from_the_other_corner(tmp_path, box, read):
    content = content_of([*BOXES, box])
    content["annotations"][-1]["area"] = box[2] * box[3]
    dataset = load_coco(write_set(tmp_path, 2, content), training=False)
    assert boxes_of(dataset) == [*BOXES, read]
    assert dataset.repairs.dropped_boxes == 0


def test_mostly_negative_sides_are_asked_about(tmp_path):
    boxes = [[x + width, y, -width, height] for x, y, width, height in BOXES]
    with pytest.raises(
        DataError, match="6 of 6 boxes have a negative width or height, such as annotation 1 of"
    ):
        load(tmp_path / "asked", boxes)
    assert boxes_of(load(tmp_path / "said", boxes, box_format="xywh")) == BOXES


def test_numbers_that_are_no_parts_of_an_image(tmp_path):
    with pytest.raises(
        DataError, match="6 of 6 boxes have numbers that are no parts .*box_format is xywh_norm"
    ):
        load(tmp_path, BOXES, box_format="xywh_normalised")
    with pytest.raises(
        ConfigError, match="TrainDataset.box_format must be one of xywh, xyxy, .*, not 'yolo'"
    ):
        load(tmp_path / "b", BOXES, box_format="yolo")


def test_what_is_clipped_and_dropped_has_an_example(tmp_path, caplog):
    load(tmp_path, [*BOXES, [50, 10, 30, 10], [10, 10, 0, 5], [70, 10, 5, 5]])
    assert "1 boxes outside their image, clipped; the first is annotation 7 of image 0.png" in caplog.text
    assert "2 boxes without area, dropped; the first is annotation 8 of image 1.png" in caplog.text


@pytest.mark.parametrize("crowds", [2, 5])
def test_crowds_are_counted_and_named(tmp_path, caplog, crowds):
    content = content_of(BOXES)
    for entry in content["annotations"][6 - crowds :]:
        entry["iscrowd"] = 1
    content["images"].append({"id": 3, "file_name": "2.png", "width": 60, "height": 40})
    content["annotations"].append(annotation(7, 3, 7, [0, 0, 9, 9], crowd=1))
    with caplog.at_level(logging.INFO, "picoquant"):
        dataset = load_coco(write_set(tmp_path, 3, content), training=True)
    said = next(record for record in caplog.records if "crowds (iscrowd)" in record.message)
    assert said.message.startswith(
        f"TrainDataset: {crowds + 1} of 7 objects are crowds (iscrowd), such as annotation"
    )
    assert said.levelno == (logging.WARNING if crowds == 5 else logging.INFO)
    images = 1 if crowds == 2 else 2  # with 5 crowds the second image has no object either
    assert f"{images} images without objects left out, {images} of them with crowds alone (Tra" in caplog.text
    assert dataset.repairs.crowd_images == images


def turned(folder, name):
    """The image on its side."""
    path = str(folder / "images" / name)
    cv2.imwrite(path, np.ascontiguousarray(cv2.imread(path).transpose(1, 0, 2)))


def test_one_image_turned_on_its_side(tmp_path, caplog):
    """The file is 40 x 60; boxes are those of 60 x 40."""
    names = [f"{number}.png" for number in range(6)]
    settings = write_set(tmp_path, 6, content_of([*BOXES, [45, 10, 10, 10]], names), section="EvalDataset")
    turned(tmp_path, "0.png")
    dataset = load_coco(settings, training=False)
    assert (
        "EvalDataset: 1 of 6 images have another size than annotated, the first: image "
        f"{tmp_path / 'images' / '0.png'} is 40x60, but annotated as 60x40; 1 of their 2 boxes reach out of them, 1 of "
        "these are lost, such as annotation 7 of image 0.png [45, 10, 10, 10]; the pixels of the file count"
    ) in caplog.text
    assert (dataset.records[0].width, dataset.records[0].height) == (40, 60)
    assert len(dataset.records[0].boxes) == 1


def test_all_images_turned_on_their_sides_are_asked_about(tmp_path):
    content = content_of(BOXES)
    write_set(tmp_path, 2, content)
    for name in NAMES:
        turned(tmp_path, name)

    def settings(**more):
        return DatasetSettings("coco", str(tmp_path), "images", "instances.json", **more)

    with pytest.raises(
        DataError, match="2 of 2 images have another size than annotated, .* 2 of these are lost, such"
    ):
        load_coco(settings(), training=True)
    assert sum(len(r.boxes) for r in load_coco(settings(box_format="xywh"), training=True).records) == 4


def test_wrong_sizes_in_the_file_lose_no_box(tmp_path, caplog):
    """Sides changed in the annotations, boxes right: each is kept whole."""
    dataset = load_coco(write_set(tmp_path, 2, content_of(BOXES, size=(60, 40))), training=False)
    assert boxes_of(dataset) == BOXES
    assert "2 of 2 images have another size than annotated" in caplog.text
    assert dataset.repairs.clipped_boxes == dataset.repairs.dropped_boxes == 0


def test_voc_from_0_to_1(tmp_path):
    texts = [
        xml(("a", 0.1, 0.1, 0.5, 0.5, 0), ("b", 0.2, 0.5, 1, 1, 0)),
        xml(("a", 0.25, 0.25, 0.75, 0.5, 0)),
    ]
    settings = write_voc(tmp_path, texts)
    with pytest.raises(
        DataError, match=r"3 of 3 boxes are below one pixel, such as object 1 of .*0.xml \[0.1, "
    ) as e:
        load_voc(settings, training=True)
    assert "Set TrainDataset.box_format to xyxy_normalised" in str(e.value)
    said = DatasetSettings("voc", str(tmp_path), anno_path="train.txt", box_format="xyxy_normalised")
    assert load_voc(said, training=True).records[1].boxes.tolist() == [[15, 10, 45, 20]]


def test_voc_with_sizes_for_corners_and_corners_changed(tmp_path, caplog):
    boxes = [[40, 20, 18, 18], [30, 12, 25, 10], [50, 30, 8, 8], [5, 5, 12, 10]]
    settings = write_voc(tmp_path / "a", [xml(*(("a", *box, 0) for box in boxes))])
    with pytest.raises(
        DataError, match="3 of 4 boxes do not fit .* as x1, y1, x2, y2, .*: are they x, y, width"
    ):
        load_voc(settings, training=True)
    said = DatasetSettings("voc", str(tmp_path / "a"), anno_path="train.txt", box_format="xywh")
    assert load_voc(said, training=True).records[0].boxes.tolist() == [corners(box) for box in boxes]
    changed = xml(("a", 30, 20, 10, 5, 0), *(("a", *corners(box), 0) for box in boxes))
    dataset = load_voc(write_voc(tmp_path / "b", [changed]), training=True)
    assert dataset.records[0].boxes.tolist()[0] == [10, 5, 30, 20]
    assert "1 of 5 boxes have a negative width or height, such as object 1 of" in caplog.text


def test_difficult_objects_are_counted_in_evaluation(tmp_path, caplog):
    settings = write_voc(tmp_path, [xml(("a", 10, 5, 30, 20, 1), ("a", 1, 1, 9, 9, 0))])
    with caplog.at_level(logging.INFO, "picoquant"):
        load_voc(settings, training=False)
    assert "1 of 2 objects are marked difficult, such as object 1 of" in caplog.text


def test_usual_files_are_not_asked_about(tmp_path, caplog):
    """Large boxes in the middle fit as corners, too; a pixel outside is rounding."""
    boxes = [[1, 1, 59, 39], [5, 4, 55.6, 36.4], [10, 8, 40, 30], [0, 0, 60, 40]]
    assert boxes_of(load(tmp_path, boxes[2:])) == boxes[2:]
    load(tmp_path / "more", boxes)
    load_coco(write_set(tmp_path / "none", 2, json.loads(json.dumps(coco_content(NAMES)))), training=True)
    assert "are they" not in caplog.text
