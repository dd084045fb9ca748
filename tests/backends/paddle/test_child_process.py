"""The compiled network in a process of its own."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from picoquant.backends.paddle import child_process as child_module
from picoquant.backends.paddle.child_process import ChildPredictor, ChildRuntime
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.config.detector import parse_detector
from picoquant.errors import PicoquantError
from picoquant.evaluation import compiled_predictor
from picoquant.yaml_files.load import load_detection_config
from tests.networks.exported import make_detector
from tests.networks.small_int8 import write_small
from tests.processes import ended


@pytest.fixture
def child():
    document = load_detection_config("picodet_s_416_coco_npu.yml")
    with ChildPredictor(parse_detector(document, 3), (64, 64)) as predictor:
        yield predictor


def test_it_computes_what_this_process_computes_with_the_weights_of_now(child):
    images = np.random.RandomState(1).rand(2, 3, 64, 64).astype(np.float32)
    seen = []
    for seed in (5, 6):
        detector = make_detector(seed)
        child.load(detector)
        found = child({"image": images})
        for have, want in zip(found, compiled_predictor(detector, (64, 64))({"image": images})):
            np.testing.assert_allclose(have, want, atol=1e-6 * max(1, np.abs(want).max()))
        seen.append(found[1])
    assert np.abs(seen[0] - seen[1]).max() > 1e-3


def test_failures_are_told(child, started):
    detector = make_detector(5)
    child.load(detector)
    with pytest.raises(PicoquantError, match="the process that evaluates failed:\nTraceback"):
        child({"image": np.zeros((1, 4, 64, 64), np.float32)})
    (process,) = started()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(PicoquantError, match="ended with code -9"):
        child({"image": np.zeros((1, 3, 64, 64), np.float32)})


def test_it_ends_with_its_owner(child, started):
    child.load(make_detector(5))
    process = started()
    child.__exit__(None, None, None)
    assert ended(process)


def test_exported_models_one_after_the_other(tmp_path):
    image = {"image": np.random.RandomState(1).rand(3, 3, 32, 32).astype(np.float32)}
    seen = []
    with ChildRuntime() as runtime:
        for name, quantised in (("int8", True), ("float", False)):
            (tmp_path / name).mkdir()
            folder = write_small(tmp_path / name, quantised)
            found = runtime.open(folder)(image)
            for have, want in zip(found, open_predictor(folder)(image)):
                np.testing.assert_array_equal(have, want)
            seen.append(found[0])
    assert np.abs(seen[0] - seen[1]).max() > 1e-3


def test_a_child_opens_so_many_models_and_is_replaced(tmp_path, monkeypatch, started):
    monkeypatch.setattr(child_module, "_MODELS", 2)
    image = {"image": np.random.RandomState(1).rand(1, 3, 32, 32).astype(np.float32)}
    model = write_small(tmp_path)
    processes, results = [], []
    with ChildRuntime() as runtime:
        for _ in range(3):
            results.append(runtime.open(model)(image)[0])
            processes.append(started())
    assert len(processes[0]) == 1 and processes[0] == processes[1] and not processes[1] & processes[2]
    assert ended({*processes[0], *processes[2]})
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
