"""LabelMe's JSON files: the boxes of the COCO file they were made of, and what is odd or broken."""

from __future__ import annotations

import base64
import json
import logging

import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.labelme import load_labelme
from picoquant.data.formats.load import class_names, files_of, load_dataset
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from tests.data.coco_sets import write_images
from tests.data.formats.converted import bccd, objects_of, write_labelme

RECTANGLE = {"label": "a", "points": [[6, 8], [18, 24]], "shape_type": "rectangle", "group_id": None}


def load(root, training=False, **more):
    return load_labelme(DatasetSettings("labelme", str(root), section="EvalDataset", **more), training)


def write(root, *shapes, number=0, **more):
    """Image number.png (60 x 40) and its JSON file."""
    if not (root / f"{number}.png").exists():
        write_images(root, number + 1)
    content = {
        "version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": f"{number}.png", "imageData": None,
        "imageHeight": 40, "imageWidth": 60, **more,
    }  # fmt: skip
    (root / f"{number}.json").write_text(json.dumps(content))
    return root


def test_the_boxes_of_the_coco_file(tmp_path, shared):
    write_labelme(bccd(shared), tmp_path)
    root = str(shared / "datasets/bccd")
    coco = load_coco(DatasetSettings("coco", root, "JPEGImages", "instances_val.json"), False)
    dataset = load(tmp_path)
    assert dataset.class_names == ("Platelets", "RBC", "WBC") and len(dataset) == 87
    assert objects_of(dataset) == objects_of(coco)
    truth = dataset.ground_truth()
    assert len(truth["annotations"]) == len(coco.ground_truth()["annotations"])
    assert load(tmp_path, classes=coco.class_names).class_names == coco.class_names
    settings = DatasetSettings("labelme", str(tmp_path), section="EvalDataset")
    assert objects_of(load_dataset(settings, False)) == objects_of(coco)


@pytest.mark.parametrize(
    "shape",
    [
        RECTANGLE,
        {**RECTANGLE, "points": [[18, 24], [6, 8]]},
        {**RECTANGLE, "points": [[6, 24], [18, 8]]},
        {**RECTANGLE, "points": [[6, 8], [18, 8], [18, 24], [6, 24]]},
        {**RECTANGLE, "points": [[6, 8], [18, 24], [10, 9]], "shape_type": "polygon"},
        {"label": "a", "points": [[6, 8], [18, 24], [10, 9]]},  # the first versions had polygons alone
        {**RECTANGLE, "label": " a "},
    ],
)
def test_shapes(tmp_path, shape):
    dataset = load(write(tmp_path, shape))
    assert dataset.records[0].boxes.tolist() == [[6, 8, 18, 24]]
    assert dataset.class_names == ("a",)


@pytest.mark.parametrize("kind", ["circle", "line", "point", "linestrip", "points", "mask", "ellipse"])
def test_other_shapes_are_named_and_left_out(tmp_path, caplog, kind):
    other = {**RECTANGLE, "shape_type": kind}
    assert len(load(write(tmp_path, RECTANGLE, other, other)).records[0].boxes) == 1
    said = (
        f"shapes that are neither rectangle nor polygon are left out: 2 {kind}, such as in {tmp_path}/0.json"
    )
    assert said in caplog.text


def test_what_shares_a_group_is_one_object(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    parts = [{**RECTANGLE, "points": [[x, 8], [x + 4, 24]], "group_id": 3} for x in (6, 14)]
    alone = {**RECTANGLE, "label": "b", "group_id": 3}
    dataset = load(write(tmp_path, *parts, alone))
    assert dataset.records[0].boxes.tolist() == [[6, 8, 18, 24]] * 2
    assert dataset.records[0].classes.tolist() == [0, 1]
    assert "1 shapes share label and group_id with another and are one object with it" in caplog.text
    assert caplog.records[-2].levelname == "WARNING"  # rectangles are seldom parts of one object


def test_rectangles_that_are_nearly_all_in_one_group_are_asked_about(tmp_path):
    three = [{**RECTANGLE, "group_id": 1}] * 3
    with pytest.raises(DataError, match="2 shapes share .* most are rectangles: take group_id away"):
        load(write(tmp_path, *three))


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("..\\images\\a.png", "images/a.png"),
        ("../images/a.PNG", "images/a.png"),
        ("C:\\cells\\images\\a.png", "images/a.png"),
        ("a.png", "json/a.png"),
        ("renamed since.png", "json/x.png"),
        ("renamed since.png", "images/x.jpg"),
        ("", "json/x.png"),
    ],
)
def test_the_image_of_a_file(tmp_path, named, there):
    write(tmp_path / "json", RECTANGLE, imagePath=named)
    (tmp_path / "json/0.json").rename(tmp_path / "json/x.json")
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / "json/0.png").rename(tmp_path / there)
    record = load(
        tmp_path, image_dir="images" if there.startswith("images") else "json", anno_path="json"
    ).records[0]
    assert record.path == str(tmp_path / there)


def test_images_without_a_file_are_left_out_and_without_shapes_kept(tmp_path, caplog):
    write_images(tmp_path, 3)
    write(write(tmp_path, RECTANGLE), number=1)
    assert [len(record.boxes) for record in load(tmp_path).records] == [1, 0]
    assert f"1 of 3 images have no annotation file and are left out, such as {tmp_path}/2.png" in caplog.text
    assert len(load(tmp_path, training=True)) == 1
    assert len(load(tmp_path, training=True, allow_empty=True)) == 2


def test_sizes(tmp_path, caplog):
    assert (load(write(tmp_path, RECTANGLE, imageWidth=None, imageHeight=0)).records[0].width) == 60
    assert not caplog.records
    load(write(tmp_path, RECTANGLE, imageWidth=50))
    assert "1 of 1 images have another size than annotated" in caplog.text
    wide = {**RECTANGLE, "points": [[6, 8], [118, 24]]}
    with pytest.raises(
        DataError, match="1 of 1 images have another size .*is 60x40, but annotated as 120x80"
    ):
        load(write(tmp_path, wide, imageWidth=120, imageHeight=80))


def test_class_names(tmp_path):
    root = write(tmp_path, RECTANGLE, {**RECTANGLE, "label": 7})
    assert load(root).class_names == ("7", "a")
    (root / "labels.txt").write_text("__ignore__\n_background_\na\n7\n")
    listed = DatasetSettings("labelme", str(root), label_list="labels.txt")
    assert load_labelme(listed, True).class_names == ("a", "7") == class_names(listed)
    with pytest.raises(DataError, match=r"0.json: class '7' is not in EvalDataset.classes; add it there"):
        load(root, classes=["a"])


def test_other_files_in_the_folder(tmp_path):
    root = write(tmp_path, RECTANGLE, imageData=base64.b64encode(np.random.bytes(300_000)).decode())
    for name, text in (
        ("coco.json", '{"images": []}'),
        ("broken.json", "{"),
        ("notes.txt", "x"),
        ("list.json", "[]"),
    ):
        (root / name).write_text(text)
    (root / "folder.json").mkdir()
    assert len(load(root)) == 1
    annotations, images = files_of(DatasetSettings("labelme", str(root)))
    assert [path.name for path in annotations] == ["0.json"] and [path.name for path in images] == ["0.png"]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            [{**RECTANGLE, "points": [[1, 2]]}],
            r"0.json: shape 1 \(rectangle a\) has the points \[\[1, 2\]\]; it",
        ),
        (
            [RECTANGLE, {**RECTANGLE, "points": [[1, 2], [3, "x"]]}],
            r"0.json: shape 2 \(rectangle a\) has the points",
        ),
        ([{**RECTANGLE, "points": [[1, 2], [3, float("nan")]]}], r"shape 1 \(rectangle a\) has the points"),
        ([{**RECTANGLE, "points": [[1, 2, 3], [3, 4, 5]]}], r"shape 1 \(rectangle a\) has the points"),
        ([{**RECTANGLE, "points": None}], r"shape 1 \(rectangle a\) has the points None"),
        ([{**RECTANGLE, "shape_type": "polygon"}], r"shape 1 \(polygon a\) has the points"),
        ([{**RECTANGLE, "label": ""}], "shape 1 has the label ''; give it the name of its class"),
        ([{**RECTANGLE, "label": None}], "shape 1 has the label 'None'"),
        ([{"points": [[1, 2], [3, 4]]}], "shape 1 has the label 'None'"),
        (["rectangle"], "shape 1 is 'rectangle'; it must have label, points and shape_type"),
    ],
)
def test_shapes_that_cannot_be_used(tmp_path, shapes, message):
    with pytest.raises(DataError, match=message):
        load(write(tmp_path, *shapes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"shapes": [', "0.json cannot be read as JSON"),
        ('{"shapes": {}}', "0.json is no file of LabelMe: it has no list 'shapes'"),
        ('["shapes"]', "0.json is no file of LabelMe"),
        ('{"images": []}', "no JSON file of LabelMe in .*EvalDataset.dataset_dir, EvalDataset.image_dir and"),
        ('{"shapes": [], "imagePath": "0.png"}', "no image of .* has an object"),
        ('{"shapes": [], "imagePath": "none.png"}', None),
    ],
)
def test_files_that_cannot_be_used(tmp_path, text, message):
    root = write(tmp_path, RECTANGLE)
    (root / "0.json").write_text(text)
    with pytest.raises(DataError, match=message or "no image of .* has an object"):
        load(root)


def test_images_that_are_not_there(tmp_path):
    root = write(tmp_path, RECTANGLE)
    (root / "0.png").unlink()
    with pytest.raises(DataError, match=r"1 of 1 images of EvalDataset are missing, the first is .*0.jpg"):
        load(root)
    with pytest.raises(
        DataError, match="no folder .*none; EvalDataset.dataset_dir and EvalDataset.image_dir name the"
    ):
        load(root / "none")


def test_two_files_of_one_image(tmp_path):
    root = write(tmp_path, RECTANGLE)
    (root / "copy.json").write_text((root / "0.json").read_text())
    with pytest.raises(DataError, match=r"0.json and .*copy.json both annotate .*0.png: remove one"):
        load(root)
