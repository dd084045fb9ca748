"""Paired comparison against pycocotools on images that are really there several times."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.evaluation import paired as module
from picoquant.evaluation.coco_metrics import coco_metrics
from picoquant.evaluation.paired import paired

IMAGES, CLASSES = 12, 3


def made(seed):
    """Annotations, and detections of two models, the second with more noise."""
    random = np.random.default_rng(seed)
    truth = {
        "images": [{"id": 10 + n, "file_name": f"{n}.jpg"} for n in range(IMAGES)],
        "categories": [{"id": n + 1, "name": f"class {n}"} for n in range(CLASSES)],
        "annotations": [],
    }
    results = ([], [])
    for image in truth["images"]:
        for _ in range(random.integers(0, 6)):
            box = [*random.uniform(0, 100, 2), *random.uniform(10, 60, 2)]
            category = int(random.integers(1, CLASSES + 1))
            crowd = int(random.random() < 0.1)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1, "image_id": image["id"], "category_id": category,
                    "bbox": box, "area": box[2] * box[3], "iscrowd": crowd,
                }
            )  # fmt: skip
            for noise, rows in zip((2, 6), results):
                moved = (np.array(box) + random.normal(0, noise, 4)).tolist()
                rows.append(_row(image["id"], category, moved, random))
        for rows in results:
            rows.append(_row(image["id"], 1, [5.0, 5.0, 20.0, 20.0], random))
    return truth, *results


def _row(image, category, box, random):
    return {"image_id": image, "category_id": category, "bbox": box, "score": float(random.random())}


def repeated(truth, results, weights):
    """The same with each image as often as `weights` says, and other ids."""
    images, annotations, rows = [], [], []
    for image, count in zip(truth["images"], weights):
        for _ in range(count):
            new = len(images) + 1
            images.append({**image, "id": new})
            for source, into in ((truth["annotations"], annotations), (results, rows)):
                into += [{**entry, "image_id": new} for entry in source if entry["image_id"] == image["id"]]
    annotations = [{**entry, "id": number} for number, entry in enumerate(annotations, 1)]
    return {**truth, "images": images, "annotations": annotations}, rows


@pytest.mark.parametrize("seed", range(4))
def test_a_resampling_is_what_pycocotools_counts_on_those_images(seed):
    truth, first, _ = made(seed)
    ids = [image["id"] for image in truth["images"]]
    classes = module._matches(truth, first, ids)
    random = np.random.default_rng(seed)
    for weights in (np.ones(IMAGES, int), *random.multinomial(IMAGES, [1 / IMAGES] * IMAGES, size=3)):
        metrics, _ = coco_metrics(*repeated(truth, first, weights))
        assert module._mean_ap(classes, weights) == pytest.approx(metrics["mAP"], abs=1e-9)


def test_difference_interval_and_the_images_that_lost(monkeypatch):
    truth, first, second = made(7)
    ids = [image["id"] for image in truth["images"]]
    found = paired(truth, first, second, ids, draws=200)
    expected = [coco_metrics(truth, rows, ids)[0]["mAP"] for rows in (first, second)]
    assert found.difference == pytest.approx(expected[1] - expected[0], abs=1e-9)
    assert found.low < found.difference < found.high < 0 and found.told_apart
    assert found == paired(truth, first, second, ids, draws=200)  # the seed decides the draws
    worst = found.images[0]
    alone = [coco_metrics(truth, rows, [worst.image_id])[0]["mAP"] for rows in (first, second)]
    assert (worst.first, worst.second) == pytest.approx(alone)
    assert [image.change for image in found.images] == sorted(image.change for image in found.images)
    assert worst.file_name == f"{worst.image_id - 10}.jpg"
    assert found.as_dict(worst=2)["lost_most"][0]["file_name"] == worst.file_name


def test_the_same_detections_differ_by_nothing_and_none_at_all_are_counted():
    truth, first, _ = made(1)
    ids = [image["id"] for image in truth["images"]]
    same = paired(truth, first, first, ids, draws=50)
    assert (same.difference, same.low, same.high, same.told_apart) == (0, 0, 0, False)
    assert same.as_dict()["lost_most"] == []
    lost = paired(truth, first, [], ids, draws=50)
    assert lost.difference == pytest.approx(-coco_metrics(truth, first, ids)[0]["mAP"])
    nothing = paired({**truth, "annotations": []}, first, first, ids, draws=5)
    assert nothing.images == () and not nothing.told_apart
