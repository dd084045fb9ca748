"""`picoquant benchmark`, the arithmetic of its times, and the examples in the commands' help."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from picoquant.runtimes import timing
from tests.command_line import picoquant, refusal


def test_first_call_and_warm_up_are_apart(monkeypatch):
    # Seconds of the calls: the first, two of warm-up, then four that count.
    clock = iter(np.cumsum([0, 9, 0, 5, 0, 5, 0, 0.1, 0, 0.2, 0, 0.3, 0, 0.4]).tolist())
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    feed = {"image": np.zeros((2, 3, 4, 4), np.float32)}
    found = timing.measure(lambda feed: [], [feed], repeats=4, warm_up=2)
    assert found.first_ms == pytest.approx(9000) and found.median_ms == pytest.approx(250)
    assert found.p90_ms == pytest.approx(370) and found.calls == 4 and found.batch == 2
    assert found.images_per_second == pytest.approx(8)  # 8 images in a second


def test_every_model_runtime_and_batch_is_a_case(run_dir):
    words = "--backend paddle --backend onnx --batch 1 --batch 3 --threads 1 --threads 2 --repeats 3 --json"
    done = picoquant("benchmark", "--save-dir", run_dir, *words.split())
    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)["cases"]
    keys = {(case["name"], case["threads"], case["batch"]) for case in cases}
    names = ("paddle_fp32", "paddle_int8", "onnx_fp32", "onnx_int8")
    assert keys == {(name, threads, batch) for name in names for threads in (1, 2) for batch in (1, 3)}
    for case in cases:
        assert 0 < case["median_ms"] <= case["p90_ms"] <= case["p99_ms"] and case["calls"] == 3
    with open(run_dir / "benchmark/results.csv", newline="") as stream:
        assert [float(row["median_ms"]) for row in csv.DictReader(stream)] == [c["median_ms"] for c in cases]


def test_without_a_model_it_says_what_to_do(tmp_path):
    assert "holds no exported model" in refusal(picoquant("benchmark", "--save-dir", tmp_path))
