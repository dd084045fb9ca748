"""load_coco: numbering, repairs, and every refusal."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError, PicoquantError
from tests.data.coco_sets import annotation, coco_content, write_images, write_set


def test_classes_are_numbered_in_the_order_of_the_file(tmp_path):
    dataset = load_coco(write_set(tmp_path), training=True)
    # Categories 7 and 3 stand in the file in this order, which PaddleDetection numbers them by.
    assert dataset.category_ids == (7, 3)
    assert dataset.class_names == ("seven", "three")
    assert [record.classes.tolist() for record in dataset.records] == [[0]] * 4
    # x, y, width, height = 10, 5, 20, 15
    assert dataset.records[0].boxes.tolist() == [[10, 5, 30, 20]]
    assert dataset.records[0].boxes.dtype == np.float32
    assert dataset.image_ids == [1, 2, 3, 4]


def test_boxes_are_clipped_dropped_and_counted(tmp_path, caplog):
    content = coco_content(["0.png", "1.png"])
    content["annotations"] = [
        annotation(1, 1, 7, [-5, 30, 20, 20]),  # image is 60 x 40: becomes 0, 30, 15, 40
        annotation(2, 1, 7, [70, 5, 10, 10]),  # wholly outside
        annotation(3, 1, 7, [10, 10, 0, 10]),  # no width
        annotation(4, 2, 3, [0, 0, 60.05, 40]),  # rounding, not worth counting
        annotation(5, 2, 3, []),
    ]
    with caplog.at_level(logging.INFO, "picoquant"):
        dataset = load_coco(write_set(tmp_path, 2, content), training=True)
    assert dataset.records[0].boxes.tolist() == [[0, 30, 15, 40]]
    assert dataset.records[1].boxes.tolist() == [[0, 0, 60, 40]]
    assert (dataset.repairs.clipped_boxes, dataset.repairs.dropped_boxes) == (1, 3)
    assert "1 boxes outside their image, clipped" in caplog.text
    assert "3 boxes without area, dropped" in caplog.text


@pytest.mark.parametrize(
    ("training", "allow_empty", "images"),
    [(True, None, 2), (False, None, 4), (True, True, 4), (False, False, 2)],
)
def test_images_without_objects(tmp_path, caplog, training, allow_empty, images):
    caplog.set_level(logging.INFO, "picoquant")
    content = coco_content(["0.png", "1.png", "2.png", "3.png"])
    # Image 3 has none, image 4 only a crowd, which is no training target.
    content["annotations"] = content["annotations"][:2] + [annotation(9, 4, 7, [0, 0, 9, 9], crowd=1)]
    dataset = load_coco(write_set(tmp_path, 4, content, allow_empty=allow_empty), training)
    assert len(dataset) == images
    assert dataset.repairs.empty_images == 4 - images
    hint = "2 images without objects left out, 1 of them with crowds alone (TrainDataset.allow_empty=true keeps them)"
    assert (hint in caplog.text) == (images == 2) and ("allow_empty" in caplog.text) == (images == 2)


def test_empty_ratio_limits_the_empty_images(tmp_path, caplog):
    caplog.set_level(logging.INFO, "picoquant")
    content = coco_content([f"{number}.png" for number in range(8)])
    content["annotations"] = content["annotations"][:3]
    settings = write_set(tmp_path, 8, content, allow_empty=True, empty_ratio=0.4)
    # 3 with objects are to be 60 %, so int(3 * 0.4 / 0.6) = 2 may be empty.
    chosen = load_coco(settings, training=True)
    assert len(chosen) == 5
    assert "3 images without objects left out (TrainDataset.empty_ratio=0.4 keeps 2)" in caplog.text
    assert "allow_empty" not in caplog.text  # it is set
    assert chosen.image_ids == load_coco(settings, training=True).image_ids


def test_sample_num(tmp_path):
    assert len(load_coco(write_set(tmp_path, sample_num=3), training=True)) == 3


def test_missing_annotation_file_names_keys_and_quickstart(tmp_path):
    settings = DatasetSettings(
        dataset_dir=str(tmp_path), image_dir="images", anno_path="none.json", section="EvalDataset"
    )
    with pytest.raises(DataError) as caught:
        load_coco(settings, training=True)
    text = str(caught.value)
    for part in (
        str(tmp_path / "none.json"),
        "EvalDataset.dataset_dir",
        "EvalDataset.image_dir",
        "EvalDataset.anno_path",
        "quickstart.yaml",
    ):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{'images': ", "cannot be read as JSON"),
        ("[1, 2]", "is no COCO.*no list 'images'"),
        ('{"images": [], "annotations": []}', "is no COCO.*no list 'categories'"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "lists no images"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "lists no categories"),
    ],
)
def test_files_that_are_no_annotations(tmp_path, text, message):
    settings = write_set(tmp_path)
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(DataError, match=f"instances.json.*{message}|{message}"):
        load_coco(settings, training=True)


def _change(root, change):
    path = root / "instances.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][1].update(category_id=4), "annotation 2 of image 2 has category_id 4"),
        (
            lambda c: c["annotations"][1].update(bbox=[1, 2, 3]),
            r"annotation 2 of .* has bbox \[1, 2, 3\]",
        ),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, "x"]), "annotation 2"),
        (lambda c: c["annotations"][1].update(category_id=[7]), "annotation 2 .* category_id .7."),
        (lambda c: c["annotations"][1].update(area="big"), "annotation 2 .* has area big"),
        (lambda c: c["annotations"][0].pop("image_id"), "annotations entry 1 has no image_id"),
        (lambda c: c["images"][2].pop("width"), "images entry 2.png has no width"),
        (lambda c: c["images"][2].update(file_name=7), "image 3 has file_name 7"),
        (lambda c: c["images"][2].update(height=0), "image 2.png has width and height"),
        (lambda c: c["images"][2].update(id=1), "image 2.png has an id that is not its own"),
        (lambda c: c["categories"].append({"id": 3, "name": "x"}), "one category id to several"),
        (lambda c: c["annotations"].clear(), "no image of .*instances.json has an object"),
    ],
)
def test_content_that_cannot_be_used(tmp_path, change, message):
    settings = write_set(tmp_path)
    _change(tmp_path, change)
    with pytest.raises(DataError, match=message):
        load_coco(settings, training=True)


def test_missing_image_folder(tmp_path):
    settings = write_set(tmp_path)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no image folder .*images; TrainDataset.dataset_dir"):
        load_coco(settings, training=True)


def test_few_missing_images_are_left_out_of_training_only(tmp_path, caplog):
    settings = write_set(tmp_path, 101)
    (tmp_path / "images" / "5.png").unlink()
    with caplog.at_level(logging.INFO, "picoquant"):
        dataset = load_coco(settings, training=True)
    assert len(dataset) == 100
    assert dataset.repairs.missing == ("5.png",)
    assert "going on without 1 missing images: 5.png" in caplog.text
    with pytest.raises(DataError, match="1 of 101 images .* missing, the first is .*5.png"):
        load_coco(settings, training=False)


def test_one_percent_of_missing_images_stops_training(tmp_path):
    settings = write_set(tmp_path, 100)
    (tmp_path / "images" / "5.png").unlink()
    with pytest.raises(DataError, match="1 of 100 images of TrainDataset are missing, the first is .*5.png"):
        load_coco(settings, training=True)


def test_annotations_without_area_or_image(tmp_path, caplog):
    content = coco_content(["0.png", "1.png"])
    content["annotations"][0].update(area=None)
    del content["annotations"][1]["area"], content["annotations"][1]["iscrowd"]
    content["annotations"] += [annotation(3, 99, 7, [0, 0, 9, 9]), annotation(4, 2, 7, [0, 0, 9, 9])]
    content["annotations"][3].update(ignore=1)
    dataset = load_coco(write_set(tmp_path, 2, content), training=True)
    assert [len(record.boxes) for record in dataset.records] == [1, 1]
    assert "1 annotations are of images it does not list" in caplog.text
    assert dataset.repairs.dropped_boxes == 0


def test_objects_keep_the_order_of_the_file(tmp_path):
    content = coco_content(["0.png", "1.png"])
    content["images"].reverse()
    boxes = {5: [1, 1, 5, 5], 6: [2, 2, 5, 5], 7: [3, 3, 5, 5]}
    content["annotations"] = [
        annotation(number, image, 7 if number == 6 else 3, boxes[number], crowd=number == 7)
        for number, image in ((5, 2), (6, 1), (7, 2))
    ]
    first, second = load_coco(write_set(tmp_path, 2, content), training=True).records
    assert (first.image_id, first.boxes.tolist(), first.classes.tolist()) == (1, [[2, 2, 7, 7]], [0])
    assert second.boxes.tolist() == [[1, 1, 6, 6], [3, 3, 8, 8]]
    assert second.is_crowd.tolist() == [False, True]


def test_images_in_subfolders(tmp_path):
    write_images(tmp_path / "images" / "a", 1)
    content = coco_content(["a/0.png"])
    assert len(load_coco(write_set(tmp_path, 1, content), training=True)) == 1


def test_ground_truth_is_the_file(tmp_path):
    settings = write_set(tmp_path)
    dataset = load_coco(settings, training=False)
    assert dataset.ground_truth() == json.loads((tmp_path / "instances.json").read_text())


def test_ground_truth_reads_the_file_once(tmp_path):
    dataset = load_coco(write_set(tmp_path), training=False)
    (tmp_path / "instances.json").unlink()
    first = replace(dataset, records=dataset.records[:1]).ground_truth()
    assert [len(first[key]) for key in ("images", "annotations", "categories")] == [1, 1, 2]
    assert len(dataset.ground_truth()["annotations"]) == 4


def test_no_ground_truth_of_a_training_set(tmp_path):
    with pytest.raises(PicoquantError, match="TrainDataset was loaded for training"):
        load_coco(write_set(tmp_path), training=True).ground_truth()


def test_bccd(shared):
    root = shared / "datasets" / "bccd"
    settings = DatasetSettings(
        dataset_dir=str(root), image_dir="JPEGImages", anno_path="instances_train.json"
    )
    dataset = load_coco(settings, training=True)
    assert len(dataset) == 205
    assert dataset.class_names == ("RBC", "WBC", "Platelets")
    assert sum(len(record.boxes) for record in dataset.records) == 2804
