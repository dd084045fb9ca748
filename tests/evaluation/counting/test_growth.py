"""What is looked at and held grows as detections and objects do: counted, not timed."""

from __future__ import annotations

import tracemalloc
from importlib import import_module

import numpy as np
import pytest

from picoquant.evaluation import results as results_module
from picoquant.evaluation.coco_metrics import metrics_of
from picoquant.evaluation.counting import images, matching, weights
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.results import Results

CURVES = import_module("picoquant.evaluation.counting.curves")  # its function has its name
EACH, OBJECTS = 20, 3  # detections and objects of an image


def made(count, classes):
    """`count` images with EACH detections and OBJECTS objects, of classes in turn."""
    random = np.random.default_rng(0)

    def boxes(number):
        return random.random((number, 4)) * [200, 200, 60, 60] + [0, 0, 10, 10]

    found = Results(
        np.repeat(np.arange(count), EACH),
        np.arange(count * EACH) % classes,
        boxes(count * EACH),
        random.random(count * EACH, dtype="float32"),
    )
    where = boxes(count * OBJECTS)
    objects = Objects(
        np.repeat(np.arange(count), OBJECTS),
        np.arange(count * OBJECTS) % classes,
        where,
        where[:, 2] * where[:, 3],
        np.zeros(count * OBJECTS, bool),
    )
    return objects, {number: str(number) for number in range(classes)}, found, range(count)


@pytest.fixture
def work(monkeypatch):
    """How many numbers each step is given."""
    seen = dict.fromkeys(("parts", "matched", "compared", "sorted"), 0)
    match, edges, by_score = matching._matched, matching._edges, CURVES.by_score

    def noted_match(part):
        seen["parts"] += 1
        seen["matched"] += len(part.found) + len(part.objects.area)
        assert len(part.found) <= images._ROWS + EACH
        return match(part)

    def noted_edges(rows, first, counts, *rest):
        seen["compared"] += int(counts[rows].sum())
        return edges(rows, first, counts, *rest)

    def noted_sort(found, classes):
        for start, stop, rows in by_score(found, classes):
            seen["sorted"] += len(rows)
            assert stop == start + 1 or len(rows) <= CURVES._ROWS
            yield start, stop, rows

    monkeypatch.setattr(images, "_ROWS", 1000)
    monkeypatch.setattr(CURVES, "_ROWS", 1000)
    monkeypatch.setattr(matching, "_matched", noted_match)
    monkeypatch.setattr(matching, "_edges", noted_edges)
    monkeypatch.setattr(CURVES, "by_score", noted_sort)
    return seen


@pytest.mark.parametrize("classes", [1, 10, 500])
def test_each_detection_is_looked_at_once(work, classes):
    """Neither images nor classes times anything."""
    for count in (100, 400):
        work.update(dict.fromkeys(work, 0))
        metrics_of(*made(count, classes))
        assert work["matched"] == count * (EACH + OBJECTS)
        assert work["sorted"] == count * EACH
        assert work["parts"] == count * (EACH + OBJECTS) // 1000 + 1
        # With its image's objects of its class alone, of which there are OBJECTS / classes on average.
        assert work["compared"] <= count * EACH * -(-OBJECTS // classes)
    assert work["compared"] > 0 or classes == 500


def test_no_detection_becomes_a_mapping(monkeypatch):
    """A mapping and its lists take some 700 bytes."""
    monkeypatch.setattr(results_module.Results, "_entries", None)
    metrics, _ = metrics_of(*made(50, 4))
    assert metrics["mAP"] > 0


def test_memory_of_a_detection(monkeypatch):
    """Beside the columns that were given; parts and groups of classes are small here, so that they do not count."""
    monkeypatch.setattr(images, "_ROWS", 1000)
    monkeypatch.setattr(CURVES, "_ROWS", 1000)
    peaks = []
    for count in (500, 2500):
        given = made(count, 50)
        tracemalloc.start()
        metrics_of(*given)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / (2000 * EACH) < 60  # bytes


def test_the_number_of_objects_that_a_recall_takes():
    total = np.arange(1, 500)
    for number, needed in zip(total, CURVES.needed_for(total)):
        recalls = np.arange(1, number + 1) / number
        assert needed.tolist() == (np.searchsorted(recalls, CURVES.RECALLS) + 1).tolist()


def test_images_one_by_one_do_not_look_at_all_classes_and_images(monkeypatch):
    seen, ranked = [], weights.Ranked
    monkeypatch.setattr(
        weights, "Ranked", lambda found, rows, label: seen.append(len(rows)) or ranked(found, rows, label)
    )
    monkeypatch.setattr(weights, "_PAIRS", 10)
    objects, names, found, ids = made(200, 50)
    matches, _ = images.match_images(objects, found, ids, list(names), matching.AREAS[:1])
    there = images.objects_of_images(objects, ids, list(names))
    assert len(there.image) <= 200 * OBJECTS
    weighted = weights.Weighted(matches, there)
    assert seen == [200 * EACH]
    assert len(weighted.aps_alone()) == len(there.image)
    assert sum(seen[1:]) <= 200 * EACH and max(seen[1:]) <= 10 * EACH
