"""YOLO folders as ultralytics, Roboflow, CVAT, Label Studio and darknet write them give what the COCO file gives."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.folder import recognise
from picoquant.data.formats.load import class_names, files_of, load_dataset
from picoquant.data.formats.yolo.load import load_yolo
from picoquant.data.images import read_image
from picoquant.data.settings import DatasetSettings
from picoquant.data.transforms.decode import Decode
from picoquant.evaluation.coco_metrics import coco_metrics
from tests.data.coco_sets import write_images
from tests.data.formats.converted import bccd, objects_of, write_yolo, yolo_line
from tests.data.test_images import _with_exif

NAMES = "names: [RBC, WBC, Platelets]\n"


def load(root, section="EvalDataset", training=False, **more):
    return load_yolo(DatasetSettings("yolo", str(root), section=section, **more), training)


@pytest.fixture(scope="module")
def as_coco(shared):
    root = str(shared / "datasets/bccd")
    return {
        part: load_coco(DatasetSettings("coco", root, "JPEGImages", f"instances_{part}.json"), False)
        for part in ("train", "val")
    }


def ultralytics(root, shared):
    for part in ("train", "val"):
        write_yolo(bccd(shared, part), root / "images" / part, root / "labels" / part)
    text = f"path: {root}\ntrain: images/train\nval: images/val\ntest: # optional\n"
    (root / "data.yaml").write_text(f"{text}names:\n  0: RBC\n  1: WBC\n  2: Platelets\n")


def roboflow(root, shared):
    for folder, part in (("train", "train"), ("valid", "val")):
        write_yolo(bccd(shared, part), root / folder / "images", root / folder / "labels")
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
    (root / "data.yaml").write_text(f"{text}names: ['RBC', 'WBC', 'Platelets']\n\nroboflow:\n  version: 1\n")


def cvat(root, shared):
    for name, part in (("train", "train"), ("valid", "val")):
        source = bccd(shared, part)
        write_yolo(source, root / f"obj_{name}_data", root / f"obj_{name}_data")
        lines = [f"data/obj_{name}_data/{image['file_name']}" for image in source.images]
        (root / f"{name}.txt").write_text("\n".join(lines))
    (root / "obj.data").write_text(
        "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    )
    (root / "obj.names").write_text("RBC\nWBC\nPlatelets\n")


def cvat_ultralytics(root, shared):
    for part in ("train", "val"):
        source = bccd(shared, part)
        write_yolo(source, root / "images" / part, root / "labels" / part)
        (root / f"{part}.txt").write_text("\n".join(f"images/{part}/{i['file_name']}" for i in source.images))
    (root / "data.yaml").write_text(f"path: ./\nTrain: train.txt\nval: [val.txt]\n{NAMES}")


def darknet_of_roboflow(root, shared):
    for folder, part in (("train", "train"), ("valid", "val")):
        write_yolo(bccd(shared, part), root / folder, root / folder)
        (root / folder / "_darknet.labels").write_text("RBC\nWBC\nPlatelets\n")


def windows_lists(root, shared):
    ultralytics(root, shared)
    for part in ("train", "val"):
        names = [image["file_name"] for image in bccd(shared, part).images]
        (root / f"{part}.txt").write_text(
            "\r\n".join(f"D:\\cells\\images\\{part}\\{n[:-4]}.JPG" for n in names)
        )
    (root / "data.yaml").write_text(
        f"path: D:\\cells\ntrain: D:\\cells\\train.txt\nval: .\\val.txt\n{NAMES}", "utf-8-sig"
    )


def names_alone(root, shared):
    ultralytics(root, shared)
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("RBC\nWBC\nPlatelets\n")


WRITERS = [ultralytics, roboflow, cvat, cvat_ultralytics, darknet_of_roboflow, windows_lists, names_alone]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_each_way_to_write_it_gives_the_boxes_of_the_coco_file(tmp_path, shared, as_coco, write):
    write(tmp_path, shared)
    for section, part in (("TrainDataset", "train"), ("EvalDataset", "val")):
        dataset = load(tmp_path, section)
        assert dataset.class_names == ("RBC", "WBC", "Platelets")
        assert len(dataset) == {"train": 205, "val": 87}[part]
        assert objects_of(dataset) == objects_of(as_coco[part])


def label_studio(root, shared, names):
    write_yolo(bccd(shared, "val", 5), root / "images", root / "labels")
    if "notes" in names:
        categories = [
            {"id": label, "name": name} for label, name in ((1, "WBC"), (0, "RBC"), (2, "Platelets"))
        ]
        (root / "notes.json").write_text(json.dumps({"categories": categories, "info": {"year": 2023}}))
    if "classes" in names:
        (root / "classes.txt").write_text("RBC\nWBC\nPlatelets\n")


@pytest.mark.parametrize("names", ["notes", "classes", "notes and classes"])
def test_label_studio(tmp_path, shared, as_coco, names):
    label_studio(tmp_path, shared, names)
    dataset = load(tmp_path, image_dir="images")
    expected = objects_of(as_coco["val"])
    assert objects_of(dataset) == {name: expected[name] for name in objects_of(dataset)} and len(dataset) == 5


def test_the_map_of_the_coco_file(tmp_path, shared, as_coco):
    """Detections that are a little off are scored alike against both."""
    ultralytics(tmp_path, shared)
    dataset, coco = load(tmp_path), as_coco["val"]
    scores = []
    for other in (dataset, coco):
        rng = np.random.default_rng(0)
        names = {Path(record.path).name: record.image_id for record in other.records}
        found = [
            {
                "image_id": names[Path(record.path).name],
                "category_id": other.category_ids[int(label)],
                "bbox": [float(x1 + rng.normal(0, 6)), float(y1), float(x2 - x1), float(y2 - y1)],
                "score": float(rng.random()),
            }
            for record in coco.records
            for label, (x1, y1, x2, y2) in zip(record.classes, record.boxes)
        ]
        scores.append(coco_metrics(other.ground_truth(), found)[0])
    assert scores[0]["mAP"] == pytest.approx(scores[1]["mAP"], abs=1e-4)
    assert 0.3 < scores[0]["mAP"] < 0.95


def small(root, *texts, names=("a", "b"), size=(40, 60)):
    """Images of 60 x 40 pixels in images/, a label file for each text (None: none)."""
    write_images(root / "images", len(texts), size)
    (root / "labels").mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        if text is not None:
            (root / "labels" / f"{number}.txt").write_text(text)
    (root / "data.yaml").write_text(f"train: images\nval: images\nnames: {json.dumps(list(names))}\n")
    return root


BOX = yolo_line(1, 6, 8, 12, 16, 60, 40)  # [6, 8, 18, 24]


@pytest.mark.parametrize(
    ("line", "kpt_shape"),
    [
        (BOX, None),
        (f"{BOX} 0.87", None),
        (f"  {BOX}\t", None),
        (BOX.replace("1 ", "1.0 ", 1), None),
        ("1 0.1 0.2 0.3 0.2 0.3 0.6 0.1 0.6", None),  # an oriented box
        ("1 0.2 0.2 0.3 0.4 0.2 0.6 0.1 0.4", None),  # a rhomb
        ("1 0.1 0.2 0.3 0.3 0.2 0.6", None),
        (f"{BOX} 0.5 0.5 2 0.1 0.1 0", "[2, 3]"),
        (f"{BOX} 0.5 0.5 0.1 0.1", "[2, 2]"),  # nine columns, and no polygon
        (BOX, "[17, 3]"),
        ("1 0.2 0.4 -0.2 -0.4", None),
    ],
)
def test_lines(tmp_path, line, kpt_shape):
    root = small(tmp_path, f"{line}\n")
    if kpt_shape:
        with open(root / "data.yaml", "a") as stream:
            stream.write(f"kpt_shape: {kpt_shape}\n")
    record = load(root).records[0]
    assert np.allclose(record.boxes, [[6, 8, 18, 24]], atol=1e-3)
    assert record.classes.tolist() == [1]
    assert (record.width, record.height) == (60, 40)


def test_images_without_objects(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = small(tmp_path, BOX, "", "\n \n", None, BOX)
    assert [len(record.boxes) for record in load(root).records] == [1, 0, 0, 0, 1]
    said = f"1 of 5 images have no label file, such as {root}/images/3.png ({root}/labels/3.txt): taken as without"
    assert said in caplog.text
    trained = load(root, "TrainDataset", True)
    assert len(trained) == 2 and trained.repairs.empty_images == 3
    assert len(load(root, "TrainDataset", True, allow_empty=True)) == 5


def test_boxes_outside_are_clipped_with_count_and_place(tmp_path, caplog):
    over = yolo_line(0, 50, 30, 20, 20, 60, 40)
    root = small(tmp_path, f"{BOX}\n{over}\n", f"{BOX}\n0 1.5 0.5 0.1 0.1\n")
    dataset = load(root)
    assert dataset.records[0].boxes.tolist() == [[6, 8, 18, 24], [50, 30, 60, 40]]
    assert len(dataset.records[1].boxes) == 1
    assert (dataset.repairs.clipped_boxes, dataset.repairs.dropped_boxes) == (1, 1)
    assert "1 of 4 boxes have numbers outside 0 to 1, such as " in caplog.text
    assert f"{root}/labels/1.txt:2 [1.5, 0.5, 0.1, 0.1]: clipped to their images" in caplog.text
    assert f"1 boxes outside their image, clipped; the first is {root}/labels/0.txt:2" in caplog.text


def test_lines_that_are_there_twice_count_once(tmp_path, caplog):
    root = small(tmp_path, f"{BOX}\n{BOX}\n0 0.5 0.5 0.1 0.1\n{BOX}\n")
    assert load(root).records[0].classes.tolist() == [1, 0]
    assert "2 lines of labels are there twice: taken once" in caplog.text


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_boxes_sit_on_the_image_as_it_is_decoded(tmp_path, suffix, orientation):
    """A white rectangle is drawn where the label says, on the image as everybody sees it."""
    root = small(tmp_path, None)
    (root / "images/0.png").unlink()
    pixels = np.zeros((40, 60, 3), np.uint8)
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    if suffix == ".jpg":
        data = _with_exif(data, orientation)
    path = root / "images" / f"0{suffix}"
    path.write_bytes(data)
    height, width = read_image(path).shape[:2]
    (root / "labels/0.txt").write_text("0 0.5 0.25 0.5 0.1\n")
    record = load(root).records[0]
    assert (record.width, record.height) == (width, height)
    assert np.allclose(record.boxes, [[0.25 * width, 0.2 * height, 0.75 * width, 0.3 * height]])
    assert np.array_equal(Decode()(record).boxes, record.boxes)


def test_other_ways_to_write_boxes(tmp_path):
    root = small(tmp_path, "1 6 8 12 16\n1 6 8 18 8 18 24\n")
    assert load(root, box_format="xywh").records[0].boxes.tolist() == [[6, 8, 18, 24]] * 2
    root = small(tmp_path, "1 0.1 0.2 0.3 0.6\n1 0.1 0.2 0.3 0.2 0.3 0.6\n")
    assert np.allclose(load(root, box_format="xyxy_normalised").records[0].boxes, [[6, 8, 18, 24]] * 2)


def test_settings_alone_and_settings_over_the_folder(tmp_path):
    root = small(tmp_path, BOX)
    assert load(root, classes=["x", "y", "z"]).class_names == ("x", "y", "z")
    (root / "names.txt").write_text("p\nq\n")
    assert load(root, label_list="names.txt").class_names == ("p", "q")
    (root / "data.yaml").rename(root / "cells.yml")
    assert load(root).class_names == ("a", "b")
    assert load(root, anno_path="cells.yml").class_names == ("a", "b")
    assert load(root / "cells.yml").class_names == ("a", "b")
    (root / "cells.yml").unlink()
    settings = DatasetSettings("yolo", str(root), "images", classes=["x", "y"])
    assert load_dataset(settings, True).class_names == class_names(settings) == ("x", "y")


def test_names_stay_as_they_are_written(tmp_path):
    root = small(tmp_path, BOX)
    (root / "data.yaml").write_text("train: images\nval: images\nnames: [on, 007, null, 1e3, no]\nnc: 5\n")
    assert load(root).class_names == ("on", "007", "null", "1e3", "no")
    (root / "data.yaml").write_text("train: images\nval: images\nnc: 2\n")
    assert load(root).class_names == ("class_0", "class_1")


def test_the_same_images_for_both_are_said(tmp_path, caplog):
    load(small(tmp_path, BOX), split="train")
    load(small(tmp_path, BOX), "TrainDataset")
    assert "the same images" not in caplog.text
    load(small(tmp_path, BOX))
    assert "EvalDataset: the same images as train: its mAP says nothing about other images" in caplog.text


def test_whoever_only_evaluates_needs_no_training_images(tmp_path):
    root = small(tmp_path, BOX)
    (root / "data.yaml").write_text("train: ../train/images\nval: images\nnames: [a, b]\n")
    assert load(root).records[0].boxes.tolist() == [[6, 8, 18, 24]]
    assert recognise(root).load("val").records[0].boxes.tolist() == [[6, 8, 18, 24]]


def test_the_files_that_decide(tmp_path):
    root = small(tmp_path, BOX, None)
    annotations, images = files_of(DatasetSettings("yolo", str(root)))
    assert [str(path.relative_to(root)) for path in annotations] == ["data.yaml", "labels/0.txt"]
    assert [path.name for path in images] == ["0.png", "1.png"]


def test_labels_beside_images_below_a_folder_called_images(tmp_path):
    root = small(tmp_path / "images" / "cells", BOX)
    shutil.move(root / "labels/0.txt", root / "images/0.txt")
    assert load(root).records[0].boxes.tolist() == [[6, 8, 18, 24]]
