"""Annotations that are read without an error, but mean something else: what tells them apart is said or asked."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.repair import tell_written_twice
from picoquant.errors import DataError
from tests.data.coco_sets import annotation, coco_content, write_set

SIZE = (40, 60)


def boxes_all_over(count):
    """x y width height, inside 60 x 40, some of which touch each edge."""
    rng = np.random.RandomState(3)
    sides = rng.uniform(4, 20, (count, 2)).round(1)
    starts = (rng.uniform(0, 1, (count, 2)) * ((60, 40) - sides)).round(1)
    starts[0], starts[1] = 0, (60, 40) - sides[1]
    return np.concatenate([starts, sides], axis=1).tolist()


def write(root, boxes, images=6, **settings):
    content = coco_content([f"{number}.png" for number in range(images)], SIZE)
    content["annotations"] = [annotation(n + 1, n % images + 1, 7, box) for n, box in enumerate(boxes)]
    return write_set(root, images, content, **settings)


def trained(dataset):
    return sorted(
        [round(float(v), 1) for v in (x1, y1, x2 - x1, y2 - y1)]
        for record in dataset.records
        for x1, y1, x2, y2 in record.boxes.tolist()
    )


def test_centres_given_as_corners_are_asked_about_and_read(tmp_path):
    truth = boxes_all_over(60)
    centres = [[x + w / 2, y + h / 2, w, h] for x, y, w, h in truth]
    settings = write(tmp_path, centres)
    with pytest.raises(
        DataError, match=r"boxes do not fit .* are they centre x, .* Set TrainDataset.box_format to cxcywh "
    ):
        load_coco(settings, True)
    assert trained(load_coco(replace(settings, box_format="cxcywh"), True)) == sorted(truth)


def test_some_boxes_that_reach_out_are_no_centres(tmp_path, caplog):
    truth = boxes_all_over(60)
    for box in truth[10:30]:  # a third, farther to the right than rounding explains
        box[0] = round(62 - box[2], 1)
    with caplog.at_level(logging.WARNING, "picoquant"):
        assert len(trained(load_coco(write(tmp_path, truth), True))) == 60
    assert "20 boxes outside their image, clipped" in caplog.text and "centre" not in caplog.text


@pytest.mark.parametrize("factors", [(0.5, 0.5), (0.25, 0.25), (10 / 60, 10 / 40)])
def test_boxes_of_smaller_images(tmp_path, factors):
    truth = boxes_all_over(60)
    small = [(np.array(box) * (factors * 2)).round(3).tolist() for box in truth]
    settings = write(tmp_path, small)
    percent = round(100 * max(factors))
    with pytest.raises(
        DataError, match=f"none of 60 boxes reaches beyond {percent} % .*smaller images, or are they percent"
    ):
        load_coco(settings, True)
    assert len(trained(load_coco(replace(settings, box_format="xywh"), True))) == 60


def test_the_same_few_places_on_all_images_are_no_smaller_images(tmp_path):
    assert len(load_coco(write(tmp_path, [[5, 4, 12, 9], [11, 8, 7, 6]] * 40), True)) == 6


def test_x_and_y_changed(tmp_path):
    """Of images wider than high a part lies outside, though most boxes are clipped or inside."""
    truth = boxes_all_over(60)
    with pytest.raises(DataError, match="of 60 boxes reach far out of their images"):
        load_coco(write(tmp_path, [[y, x, h, w] for x, y, w, h in truth]), True)


@pytest.mark.parametrize("step", [1, -1])
def test_image_ids_that_count_from_another_number(tmp_path, step):
    content = coco_content([f"{number}.png" for number in range(5)], SIZE)
    for entry in content["annotations"]:
        entry["image_id"] += step
    empty, first = (1, 2) if step == 1 else (5, 0)
    with pytest.raises(
        DataError,
        match=f"1 annotations are of .* image {empty} has none: image_id seems to count from {first}, ",
    ):
        load_coco(write_set(tmp_path, 5, content), True)


@pytest.mark.parametrize("stray", [9, 6])
def test_other_strays_are_said(tmp_path, caplog, stray):
    content = coco_content([f"{number}.png" for number in range(5)], SIZE)
    content["annotations"].append(annotation(6, stray, 7, [1, 2, 9, 8]))
    assert len(load_coco(write_set(tmp_path, 5, content), True)) == 5
    assert (
        f"1 annotations are of images it does not list, the first is annotation 6 of image {stray}"
        in caplog.text
    )


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_list_that_is_there_twice(tmp_path, key):
    settings = write_set(tmp_path)
    text = settings.annotation_file.read_text()
    settings.annotation_file.write_text(f"{text[:-1]}, {json.dumps(key)}: []}}".replace(": []", ": [{}]"))
    with pytest.raises(
        DataError, match=f"has the list '{key}' twice, of which one would be lost; join the two"
    ):
        load_coco(settings, True)


def test_a_key_of_that_name_elsewhere_is_no_second_list(tmp_path):
    content = coco_content([f"{number}.png" for number in range(4)], SIZE)
    content["info"] = {"images": ["a"], "categories": ["b"]}
    assert len(load_coco(write_set(tmp_path, content=content), True)) == 4


def test_boxes_that_are_written_twice_are_said(tmp_path, caplog):
    truth = [[10, 5, 20, 15], [1, 2, 9, 8]]
    assert len(trained(load_coco(write(tmp_path, [*truth, *truth, *truth], images=2), True))) == 6
    said = "4 of 6 boxes are written more than once, such as annotation 3 of image 0.png: each counts"
    assert said in caplog.text


def test_boxes_that_differ_in_class_image_or_a_number_are_none_twice(caplog):
    image, classes = np.array([1, 1, 2, 1]), np.array([0, 1, 0, 0])
    boxes = np.array([[1, 2, 3, 4]] * 3 + [[2, 1, 3, 4]], np.float64)
    tell_written_twice("TrainDataset", image, classes, boxes, str)
    assert not caplog.text
    tell_written_twice("TrainDataset", np.zeros(0), np.zeros(0), np.zeros((0, 4)), str)
    assert not caplog.text
