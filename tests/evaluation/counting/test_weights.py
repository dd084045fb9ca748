"""AP of images that count several times, and of each alone, beside the plain counting of such images."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.evaluation.coco_metrics import coco_metrics
from picoquant.evaluation.counting import weights as module
from picoquant.evaluation.counting.images import match_images, objects_of_images
from picoquant.evaluation.counting.matching import AREAS
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.counting.weights import Weighted
from picoquant.evaluation.results import Results
from tests.evaluation.counting.test_equality import made

CLOSE = {"abs": 1e-12, "rel": 0}  # the small number in the divisors


def weighted(truth, results):
    ids = sorted(entry["id"] for entry in truth["images"])
    labels = sorted(entry["id"] for entry in truth["categories"])
    objects = Objects.of(truth["annotations"])
    found, _ = match_images(objects, Results.of(results), ids, labels, AREAS[:1])
    return ids, labels, Weighted(found, objects_of_images(objects, ids, labels))


def repeated(truth, results, ids, times):
    """The same with each image as often as `times` says, and other ids."""
    images, annotations, rows = [], [], []
    for image, count in zip(ids, times):
        for _ in range(count):
            images.append({"id": len(images)})
            for source, into in ((truth["annotations"], annotations), (results, rows)):
                into += [
                    {**entry, "image_id": len(images) - 1} for entry in source if entry["image_id"] == image
                ]
    return {**truth, "images": images, "annotations": annotations}, rows


@pytest.mark.parametrize("seed", range(4))
def test_images_that_count_several_times(seed):
    truth, results = made(seed, images=10, crowds=0.3)  # with equal scores the order of the copies decides
    for entry in truth["annotations"][::7]:
        entry["area"] = 1e11  # more than counts
    results[::9] = [{**entry, "bbox": [0, 0, 1e6, 1e5]} for entry in results[::9]]
    ids, _, found = weighted(truth, results)
    random = np.random.default_rng(seed)
    for times in (np.ones(10, np.int64), *random.multinomial(10, [0.1] * 10, size=4)):
        expected = list(coco_metrics(*repeated(truth, results, ids, times))[1].values())
        values = [None if np.isnan(value) else value for value in found.aps(times).tolist()]
        assert [value is None for value in values] == [value is None for value in expected]
        assert [value or 0 for value in values] == pytest.approx([value or 0 for value in expected], **CLOSE)


def test_images_alone(monkeypatch):
    truth, results = made(11, images=10, classes=6)
    ids, labels, found = weighted(truth, results)
    alone = found.aps_alone().tolist()
    for image, label, value in zip(found.objects.image.tolist(), found.objects.label.tolist(), alone):
        per_class = coco_metrics(truth, results, [ids[image]])[1]
        assert value == pytest.approx(per_class[f"class {labels[label]}"], **CLOSE)
    assert len(alone) > 20 and len(set(alone)) > 5
    monkeypatch.setattr(module, "_PAIRS", 3)
    assert found.aps_alone().tolist() == alone


def test_nothing_at_all():
    truth, results = made(12)
    for content, some in (
        ({**truth, "categories": []}, results),
        ({**truth, "annotations": []}, results),
        ({**truth, "annotations": []}, []),
        ({**truth, "images": [], "annotations": []}, []),
    ):
        ids, labels, found = weighted(content, some)
        assert np.isnan(found.aps(np.ones(len(ids), np.int64))).tolist() == [True] * len(labels)
        assert found.aps_alone().tolist() == []
    ids, _, found = weighted(truth, [])
    assert set(found.aps_alone().tolist()) == {0}
