"""Classes of models and data sets brought together by their names."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.data.class_names import compare, in_order, in_training_order, match, same_names
from picoquant.data.formats.coco import load_coco
from picoquant.errors import DataError
from picoquant.evaluation.coco_metrics import coco_results
from picoquant.postprocess import Detections
from tests.data.coco_sets import annotation, coco_content, write_set


def three_classes(tmp_path):
    """Classes a, b and c with ids 5, 9 and 2; an object of each on two images, of `b` on the second only."""
    content = coco_content(["0.png", "1.png"])
    content["categories"] = [{"id": 5, "name": "a"}, {"id": 9, "name": "b"}, {"id": 2, "name": "c"}]
    content["annotations"] = [
        annotation(1, 1, 2, [1, 1, 9, 9]),
        annotation(2, 1, 5, [2, 2, 9, 9]),
        annotation(3, 2, 9, [3, 3, 9, 9]),
    ]
    return load_coco(write_set(tmp_path, 2, content), training=False)


def test_another_order(tmp_path):
    dataset = three_classes(tmp_path)
    matched, said = match(dataset, ["c", "a", "b"], "the model")
    assert matched.class_names == ("c", "a", "b") and matched.category_ids == (2, 5, 9)
    assert [record.classes.tolist() for record in dataset.records] == [[2, 0], [1]]
    assert [record.classes.tolist() for record in matched.records] == [[0, 1], [2]]
    assert matched.ground_truth()["annotations"] == dataset.ground_truth()["annotations"]
    assert "the model has its classes in another order (c, a, b) than" in said
    assert said.endswith("instances.json (a, b, c): matched by name") and "\n" not in said


def test_detections_of_a_matched_data_set_have_the_files_categories(tmp_path):
    matched, _ = match(three_classes(tmp_path), ["b", "other", "a"], "the model")
    found = Detections(
        np.array([0, 1, 2], np.int64), np.array([0.9, 0.8, 0.7], np.float32), np.ones((3, 4), np.float32)
    )
    results = coco_results(1, found, matched.category_ids)
    assert [(entry["category_id"], round(entry["score"], 1)) for entry in results] == [(9, 0.9), (5, 0.7)]


def test_some_names_in_common(tmp_path):
    dataset = three_classes(tmp_path)
    matched, said = match(dataset, ["x", "c", "b", "y"], "m")
    assert matched.class_names == ("x", "c", "b", "y", "a") and matched.category_ids == (None, 2, 9, None, 5)
    truth = matched.ground_truth()
    assert truth["annotations"] == dataset.ground_truth()["annotations"]
    assert sorted(entry["id"] for entry in truth["categories"]) == [2, 5, 9]
    assert "share 2 classes, matched by name; 2 only in the model, not counted (x, y)" in said
    assert "1 only in the data set, never found (a)" in said


def test_only_what_is_trained_is_counted_where_the_configuration_says_how_many(tmp_path, caplog):
    """PaddleDetection's pedestrian detectors: one class to train on, COCO's 80 to evaluate on."""
    dataset = three_classes(tmp_path)
    found = in_training_order(dataset, ["A", "c"], 2)
    assert found.class_names == ("A", "c") and found.category_ids == (5, 2)
    assert [record.classes.tolist() for record in found.records] == [[1, 0], []]  # no image is left out
    assert [record.boxes.shape for record in found.records] == [(2, 4), (0, 4)]
    truth = found.ground_truth()
    assert [entry["category_id"] for entry in truth["annotations"]] == [2, 5] and len(truth["images"]) == 2
    assert "has 1 classes that TrainDataset (A, c) and num_classes 2 have not (b): " in caplog.text
    for names, wanted in ((["a", "c"], 80), (["a", "c"], None), (["a", "x"], 2), (["a", "b", "c"], 3)):
        assert in_training_order(dataset, names, wanted) is dataset


def test_the_same_order_and_other_spelling_are_not_worth_a_line(tmp_path):
    dataset = three_classes(tmp_path)
    assert match(dataset, ("a", "b", "c"), "m") == (dataset, "")
    matched, said = match(dataset, ("A", " b", "C"), "m")
    assert said == "" and matched.category_ids == (5, 9, 2)


def test_names_that_differ_in_case_only_are_told_apart_where_both_are_there():
    assert compare(["cat", "Cat"], "m", ["Cat", "cat"], "f").startswith("m has its classes in another order")
    assert "share 1 classes" in compare(["CAT", "dog"], "m", ["cat", "Cat", "dog"], "f")


@pytest.mark.parametrize("labels", [["x", "y", "z"], ["0", "1", "2"], ["x"]])
def test_no_name_in_common(labels):
    with pytest.raises(DataError, match="m knows the classes .*; f has a, b, c, none of them: use it on"):
        compare(labels, "m", ["a", "b", "c"], "f")


def test_a_name_given_twice():
    with pytest.raises(DataError, match="m names the class 'a' twice"):
        compare(["a", "a"], "m", ["a", "b"], "f")
    with pytest.raises(DataError, match="f names the class 'b' twice"):
        compare(["a", "b"], "m", ["b", "b", "a"], "f")
    assert compare(["b", "b"], "m", ["b", "b"], "f") == ""  # nothing to match


def test_long_lists_are_cut():
    names = [f"c{number}" for number in range(80)]
    assert "(c79, c78, c77, c76, c75, … (80))" in compare(names[::-1], "m", names, "f")


def test_in_order_twice_is_in_order_once(tmp_path):
    dataset = three_classes(tmp_path)
    there = in_order(dataset, ["b", "c", "a"])
    back = in_order(there, ["a", "b", "c"])
    assert back.category_ids == dataset.category_ids
    assert [r.classes.tolist() for r in back.records] == [r.classes.tolist() for r in dataset.records]


def test_same_names():
    assert same_names(["a", "b"], ["b", "a"]) and same_names(["A"], ["a "])
    assert not same_names(["a", "b"], ["a"]) and not same_names(["a", "b"], ["a", "c"])
