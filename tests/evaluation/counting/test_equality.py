"""Every number to the last bit that of faster-coco-eval, for data that has everything that may be in a file."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from picoquant.evaluation.coco_metrics import coco_metrics
from picoquant.evaluation.counting import images, matching
from picoquant.evaluation.counting.images import match_images
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.results import Results
from picoquant.utils.helpers import helpers
from tests.evaluation.libraries import by_faster_coco_eval

CURVES = import_module("picoquant.evaluation.counting.curves")  # its function has its name


def made(seed, images=8, classes=4, crowds=0.15, levels=None, most=40, side=300.0):
    """Annotations and results with gaps in all ids, in no order; images and classes with nothing among them.

    Args:
        crowds: share of crowd regions.
        levels: so many different scores, and boxes on a grid, so that IoUs are equal, too.
        most: detections of an image beside those near objects.
    """
    random = np.random.default_rng(seed)
    ids = np.sort(random.choice(5000, images, replace=False)).tolist()
    labels = np.sort(random.choice(3000, classes, replace=False)).tolist()
    annotations, results = [], []

    def box():
        values = random.random(4) * [side, side, side / 2, side / 2] + [0, 0, 2, 2]
        return (np.round(values / 8) * 8 + [0, 0, 8, 8] if levels else values).tolist()

    def found(image, label, where):
        score = float(random.integers(0, levels)) / levels if levels else float(random.random())
        results.append({"image_id": image, "category_id": label, "bbox": where, "score": score})

    for image in ids[1:]:
        for _ in range(random.integers(0, 20)):
            where, label = box(), int(random.choice(labels[: max(1, classes * 3 // 4)]))
            entry = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": label,
                "bbox": where,
                "iscrowd": int(random.random() < crowds),
            }
            annotations.append(entry)
            if random.random() < 0.5:
                entry["area"] = where[2] * where[3] * float(random.choice([1.0, 0.6]))
            for _ in range(random.integers(0, 4)):
                found(image, label, (np.array(where) * (1 + 0.07 * random.normal(size=4))).tolist())
        for _ in range(random.integers(0, most + 1)):
            found(image, int(random.choice(labels)), box())
    truth = {
        "images": [{"id": image, "width": 640, "height": 480} for image in random.permutation(ids).tolist()],
        "categories": [{"id": label, "name": f"class {label}"} for label in labels],
        "annotations": annotations,
    }
    return truth, [results[place] for place in random.permutation(len(results))]


CASES = {
    "usual": {"seed": 0},
    "without crowds": {"seed": 1, "crowds": 0.0},
    "crowds": {"seed": 2, "crowds": 0.6},
    "equal scores and IoUs": {"seed": 3, "levels": 4},
    "equal scores, small and large objects": {"seed": 4, "levels": 3, "side": 900.0},
    "more than count": {"seed": 5, "classes": 1, "most": 400},
    "equal scores, more than count": {"seed": 6, "classes": 1, "most": 400, "levels": 5},
    "one image": {"seed": 7, "images": 2},
    "1,000 classes": {"seed": 8, "classes": 1000, "images": 12},
    "small objects": {"seed": 9, "side": 40.0},
}


def same(truth, results, image_ids=None):
    """Metrics, APs, precision and recall are the library's."""
    expected, precision, recall = by_faster_coco_eval(truth, results, image_ids)
    assert repr(coco_metrics(truth, results, image_ids)) == repr(expected)
    listed = [entry["id"] for entry in truth["images"]] if image_ids is None else image_ids
    labels = sorted(entry["id"] for entry in truth["categories"])
    objects = Objects.of(truth["annotations"])
    found = CURVES.curves(*match_images(objects, Results.of(results), listed, labels))
    assert np.array_equal(found.precision, precision) and np.array_equal(found.recall, recall)
    return expected[0]


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_of_faster_coco_eval(case):
    truth, results = made(**CASES[case])
    metrics = same(truth, results)
    assert 0 < metrics["mAP"] < 1
    some = [entry["id"] for entry in truth["images"]][::2]
    same(truth, results, some)


def test_without_detections_without_objects_without_either():
    truth, results = made(20)
    assert same(truth, [])["mAP"] == 0
    none = {**truth, "annotations": []}
    assert same(none, results)["mAP"] == -1 and same(none, [])["AR100"] == -1
    crowds = {**truth, "annotations": [{**entry, "iscrowd": 1} for entry in truth["annotations"]]}
    assert same(crowds, results)["mAP"] == -1
    assert coco_metrics({**truth, "categories": []}, results) == (dict.fromkeys(same(none, []), -1.0), {})
    assert coco_metrics(truth, results, [])[0]["mAP"] == -1


@pytest.mark.parametrize("seed", range(3))
def test_numbers_do_not_depend_on_the_size_of_parts(seed, monkeypatch):
    truth, results = made(30 + seed, levels=5, classes=3, most=150)
    expected = by_faster_coco_eval(truth, results)[0]
    for module, name in ((images, "_ROWS"), (images, "_AT_ONCE"), (matching, "_PAIRS"), (CURVES, "_ROWS")):
        monkeypatch.setattr(module, name, 1)
        assert repr(coco_metrics(truth, results)) == repr(expected), name


def test_numbers_do_not_depend_on_processes(monkeypatch):
    truth, results = made(40)
    monkeypatch.setattr(helpers, "_START", 0.0)
    monkeypatch.setattr(helpers, "available_cpus", lambda: 2)
    monkeypatch.setattr(images, "_ROWS", 20)
    monkeypatch.setattr(images, "SMALL", 0.0)
    shared, share = [], helpers.Helpers.share

    def noted(self, function, items, seconds):
        found = share(self, function, items, seconds)
        shared.append([worker.started for worker in self._workers])
        return found

    monkeypatch.setattr(helpers.Helpers, "share", noted)
    expected = repr(by_faster_coco_eval(truth, results)[0])
    assert repr(coco_metrics(truth, results)) == expected
    assert shared == [[True]]
    monkeypatch.setattr(images, "SMALL", 1.0)  # a process takes as long to start as a million detections
    assert repr(coco_metrics(truth, results)) == expected
    assert shared[1:] == [[False]]


def test_an_area_that_is_null_is_that_of_the_box_and_ids_of_annotations_do_not_matter():
    """To the libraries an id of 0 is no match, and one of two annotations counts twice."""
    truth, results = made(50)
    expected = coco_metrics(truth, results)
    assert expected[0]["mAP"] > 0
    for change in ({"id": 0}, {"id": 7}):
        other = {**truth, "annotations": [{**entry, **change} for entry in truth["annotations"]]}
        assert coco_metrics(other, results) == expected
    bare = [{key: entry[key] for key in entry if key != "area"} for entry in truth["annotations"]]
    null = [{**entry, "area": None} for entry in bare]
    assert coco_metrics({**truth, "annotations": null}, results) == coco_metrics(
        {**truth, "annotations": bare}, results
    )
