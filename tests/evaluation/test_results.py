"""Detections as columns: their text, in parts and by several processes, and what one process tells another."""

from __future__ import annotations

import json

import numpy as np
import pytest

from picoquant.data.dataset import Dataset
from picoquant.evaluation import results as module
from picoquant.evaluation.results import Results, ResultsOf, from_bytes, to_bytes
from picoquant.postprocess import Detections
from picoquant.utils.helpers import helpers

NAMED = Dataset((), (), (), own_image_ids={3: "three", 5: 5.5}, own_category_ids={1: "one"})


def made(count):
    random = np.random.default_rng(count)
    boxes = random.normal(100, 90, (count, 4)).astype("float32").astype("float64")
    boxes[::5] = np.round(boxes[::5])
    scores = random.random(count, dtype="float32")
    return Results(np.arange(count) // 4, random.integers(0, 3, count), boxes, scores)


@pytest.mark.parametrize("value", [1e-7, 1e22, -0.0, np.nan, np.inf])
@pytest.mark.parametrize("dataset", [Dataset((), (), ()), NAMED], ids=["", "own ids"])
def test_the_text_is_that_of_all_entries(value, dataset, monkeypatch):
    monkeypatch.setattr(module, "_PART", 16)
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    results = made(50)
    results.boxes[20, 2] = value
    assert "".join(results.json_parts(dataset)) == json.dumps(dataset.with_own_ids(results))


@pytest.mark.parametrize("dataset", [Dataset((), (), ()), NAMED], ids=["", "own ids"])
def test_the_text_does_not_depend_on_processes(dataset, monkeypatch):
    results = made(150)
    alone = "".join(results.json_parts(dataset))
    monkeypatch.setattr(helpers, "_START", 0.0)
    monkeypatch.setattr(helpers, "available_cpus", lambda: 2)
    monkeypatch.setattr(module, "_PART", 16)
    monkeypatch.setattr(module, "SMALL", 0.0)
    asked, ask = [], helpers.Worker.ask

    def noted(self, question):
        asked.append(sum(len(part.entries) for part in question[1]))
        return ask(self, question)

    monkeypatch.setattr(helpers.Worker, "ask", noted)
    assert "".join(results.json_parts(dataset)) == alone
    assert len(asked) == 1 and 0 < asked[0] < 150
    monkeypatch.setattr(module, "SMALL", 1.0)
    assert "".join(results.json_parts(dataset)) == alone and len(asked) == 1


def test_collected_in_large_arrays(monkeypatch):
    """Not four of each image, which take more than what they hold."""
    monkeypatch.setattr(module, "_PART", 64)
    random, collected, one_by_one = np.random.default_rng(0), ResultsOf((7, 9)), []
    for image in range(100):
        count = int(random.integers(0, 5))
        found = Detections(
            random.integers(0, 2, count),
            random.random(count, dtype="float32"),
            random.random((count, 4), dtype="float32"),
        )
        collected.add(image, found)
        alone = ResultsOf((7, 9))
        alone.add(image, found)
        one_by_one += list(alone.results())
        assert len(collected._waiting) <= 64
    assert collected.results() == one_by_one
    assert collected.results() == one_by_one  # asked again
    collected.add(100, found)
    assert len(collected.results()) == len(one_by_one) + count
    assert [len(column) for column in collected._columns] == [1] * 4


def test_what_a_process_tells_another():
    for results in (made(9), Results.of([])):
        images, found = from_bytes(to_bytes(3, results))
        assert images == 3 and found == results
        assert [column.dtype for column in found.columns] == [column.dtype for column in results.columns]


def test_a_score_is_compared_as_the_number_that_a_file_has():
    """As 32-bit floats 0.3 and the score are equal, as numbers the score is the larger one."""
    results = made(3)
    results.scores[:] = np.float32([0.3, 0.29, 0.7])
    for least in (0.3, float(np.float32(0.3)), 0.7, 0.0):
        assert results.least(least) == [entry for entry in results if entry["score"] >= least]
    assert len(results.least(0.3)) == 2 and len(results.least(0.7)) == 0
