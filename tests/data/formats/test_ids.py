"""Ids of annotation files, as people have them."""

from __future__ import annotations

import json

import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.coco_file import peek_categories
from picoquant.data.formats.ids import AmbiguousIdError, IdTable, is_id
from picoquant.errors import DataError
from tests.data.coco_sets import annotation, coco_content, write_set

NAMES = ["0.png", "1.png", "2.png"]


def load(tmp_path, change):
    content = coco_content(NAMES)
    change(content)
    return load_coco(write_set(tmp_path, 3, content), training=False)


def each(section, key, change):
    """A change of one key in all entries of a section."""

    def apply(content):
        for entry in content[section]:
            entry[key] = change(entry[key])

    return apply


@pytest.mark.parametrize(
    "change",
    [
        each("annotations", "id", lambda value: 0),
        each("annotations", "id", lambda value: value - 1),
        each("annotations", "id", lambda value: 1),
        each("annotations", "id", str),
        each("annotations", "id", lambda value: None),
        lambda content: [entry.pop("id") for entry in content["annotations"]],
        lambda content: content["annotations"][1].pop("id"),
        each("annotations", "image_id", str),
        each("annotations", "image_id", float),
        each("annotations", "image_id", lambda value: f"{value}.0"),
        each("annotations", "image_id", lambda value: f"00{value}"),
        each("images", "id", str),
        each("images", "id", float),
        each("images", "id", lambda value: f" {value}"),
        each("annotations", "category_id", str),
        each("annotations", "category_id", float),
        each("categories", "id", str),
        lambda content: content["annotations"][0].update(image_id="1"),
        lambda content: content["images"][2].update(id="3"),
    ],
)
def test_ids_of_other_kinds_mean_what_they_look_like(tmp_path, change):
    dataset = load(tmp_path, change)
    assert dataset.image_ids == [1, 2, 3] and dataset.category_ids == (7, 3)
    truth = dataset.ground_truth()
    assert [entry["id"] for entry in truth["annotations"]] == [1, 2, 3]
    assert [entry["image_id"] for entry in truth["annotations"]] == [1, 2, 3]
    assert {entry["category_id"] for entry in truth["annotations"]} == {7}
    assert [len(record.boxes) for record in dataset.records] == [1, 1, 1]


def test_texts_are_numbered_and_detections_written_with_them(tmp_path):
    def change(content):
        each("images", "id", lambda value: f"img_{9 - value}")(content)
        each("annotations", "image_id", lambda value: f"img_{9 - value}")(content)
        each("categories", "id", lambda value: f"class {value}")(content)
        each("annotations", "category_id", lambda value: f"class {value}")(content)

    dataset = load(tmp_path, change)
    assert dataset.image_ids == [1, 2, 3] and dataset.category_ids == (1, 2)  # in the order of the file
    assert [entry["image_id"] for entry in dataset.ground_truth()["annotations"]] == [1, 2, 3]
    found = [{"image_id": 3, "category_id": 2, "score": 0.5, "bbox": [1, 2, 3, 4]}]
    written = dataset.with_own_ids(found)
    assert written[0]["image_id"] == "img_6" and written[0]["category_id"] == "class 3"
    assert dataset.with_ids_here(json.loads(json.dumps(written))) == found


def test_other_files_keep_their_ids(tmp_path):
    dataset = load(tmp_path, each("images", "id", float))
    found = [{"image_id": 2, "category_id": 7, "score": 0.5, "bbox": [1, 2, 3, 4]}]
    assert json.dumps(dataset.with_own_ids(found)[0]["image_id"]) == "2.0"
    assert dataset.with_ids_here(dataset.with_own_ids(found)) == found
    assert load(tmp_path / "plain", lambda content: None).with_own_ids(found) == found


def test_ids_of_one_kind_win_where_others_are_alike(tmp_path):
    def change(content):
        content["images"][1]["id"] = "1"  # beside 1
        content["annotations"][1]["image_id"] = "1"

    dataset = load(tmp_path, change)
    assert [entry["image_id"] for entry in dataset.ground_truth()["annotations"]] == [1, 2, 3]
    assert dataset.with_own_ids([{"image_id": 2, "category_id": 7}])[0]["image_id"] == "1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: (c["images"][1].update(id="1"), c["annotations"][2].update(image_id=1.0)),
            r"annotation 3 of image 1.0 has image_id 1.0 \(a number with a point\), which several .* of one kind",
        ),
        (each("annotations", "image_id", lambda value: f"img{value}"), r"image img1 \(a text\).*such as 1 "),
        (each("annotations", "image_id", lambda value: None), r"image None \(null\); its images have ids"),
        (each("annotations", "image_id", lambda value: value + 0.5), r"image 1.5 \(a number with a point\)"),
        (each("images", "id", lambda value: None), r"image 0.png has the id None \(null\)"),
        (each("images", "id", lambda value: [value]), r"image 0.png has the id \[1\] \(a list\)"),
        (each("images", "id", lambda value: value == 1), r"0.png has the id True \(true or false\)"),
        (each("images", "id", lambda value: ""), r"image 0.png has the id '' \(a text\); give it"),
        (each("images", "id", lambda value: value + 0.5), r"id 1.5 \(a number with a point\)"),
        (each("categories", "id", lambda value: {}), r"category 'seven' has the id {} \(a mapping\)"),
        (
            lambda c: c["annotations"][1].update(category_id="seven"),
            r"annotation 2 of image 2 has category_id 'seven' \(a text\), which is not among .*\(7, 3\)",
        ),
        (lambda c: c["annotations"][1].update(category_id=7.5), r"category_id 7.5 \(a number with a point\)"),
        (lambda c: c["images"][1].update(id=1), "image 1.png has an id that is not its own"),
    ],
)
def test_the_kind_that_does_not_fit_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, change)
    assert "\n" not in str(caught.value)


def test_a_few_annotations_of_no_image(tmp_path, caplog):
    dataset = load(tmp_path, lambda c: c["annotations"].append(annotation(9, "other", 7, [0, 0, 5, 5])))
    assert len(dataset.ground_truth()["annotations"]) == 3
    assert (
        "1 annotations are of images it does not list, the first is annotation 9 of image other (a text)"
        in (caplog.text)
    )


def test_the_table():
    assert IdTable.of([3, "2", 1.0]).numbers == (3, 2, 1)
    assert IdTable.of([3, "3"]).numbers == (1, 2)
    assert IdTable.of([2**70, 5]).numbers == (1, 2)
    assert IdTable.of(["9" * 30]).find("9" * 30) == 1
    table = IdTable.of(["a", "1", 1])
    assert (table.find("a "), table.find("1"), table.find(1), table.find("b"), table.find(None)) == (
        1, 2, 3, None, None,
    )  # fmt: skip
    with pytest.raises(AmbiguousIdError):
        table.find("1.0")
    assert not any(map(is_id, [None, True, "", 1.5, float("nan"), float("inf"), [], {}]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            '{"images": [], "categories" : [{"id": 2, "name": "b"}, {"id": 1, "name": "ä"}]}',
            [(2, "b"), (1, "ä")],
        ),
        ('{"categories": [{"id": 1, "name": "a"}], "x": {"categories": [1]}}', None),
        ('{"categories": [{"id": 1}]}', None),
        ('{"categories": [{"id": 1, "name": "a"}', None),
        ('{"categories": []}', None),
        ("{}", None),
        ("", None),
    ],
)
def test_categories_without_the_rest(tmp_path, text, found):
    (tmp_path / "a.json").write_text(text, "utf-8")
    assert peek_categories(tmp_path / "a.json") == found


def test_many_categories_without_the_rest(tmp_path):
    categories = [{"id": number, "name": f"class ä {number}"} for number in range(9000)]
    (tmp_path / "a.json").write_text(json.dumps({"categories": categories, "images": []}, ensure_ascii=False))
    assert peek_categories(tmp_path / "a.json")[-1] == (8999, "class ä 8999")
