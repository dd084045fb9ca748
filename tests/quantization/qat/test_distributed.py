"""Quantisation in two processes on paddle's CPU backend beside one with all the images.

The teacher has other weights than the student, so that training has something to do.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from picoquant.int8.files import open_network
from picoquant.paddle_program.model_folder import ModelFolder
from tests.networks.small_net import export_small
from tests.quantization.qat import several
from tests.utils.test_process_group import launch

# `average`: ranges follow the data, and within a step each process rounds with that of its own images.
TOLERANCES = {"lsq": 1e-5, "pact": 1e-5, "average": 0.02, "levels": 1e-4}


def rows(folder, name):
    with open(folder / "model0/qat.csv", newline="") as stream:
        return np.array([float(row[name] or "nan") for row in csv.DictReader(stream)])


@pytest.fixture(scope="module")
def done(small_model, tmp_path_factory):
    """Folders of one process and of two, and the metrics of the one by kind."""
    folder = tmp_path_factory.mktemp("devices")
    (folder / "teacher").mkdir()
    export_small(folder / "teacher", seed=4)
    arguments = [str(small_model), str(folder / "teacher"), str(folder / "two"), *TOLERANCES, "ptq"]
    ended = launch(Path(several.__file__), *arguments, folder=folder)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    metrics = {
        kind: several.run(small_model, folder / "teacher", folder / "one", kind)
        for kind in (*TOLERANCES, "ptq")
    }
    return folder / "one", folder / "two", metrics


@pytest.mark.parametrize("kind", TOLERANCES)
def test_two_processes_train_as_one_with_all_the_images(done, kind):
    one, two = (folder / kind for folder in done[:2])
    losses = rows(one, "loss")
    assert len(losses) == several.STEPS
    assert losses[-1] < 0.8 * losses[0]  # learning moves the curve by far more than the tolerance
    np.testing.assert_allclose(rows(two, "loss"), losses, rtol=TOLERANCES[kind])
    np.testing.assert_allclose(rows(two, "lr"), rows(one, "lr"))
    alone, shared = (np.load(folder / "end_0.npz") for folder in (one, two))
    assert set(alone) == set(shared)
    for name in alone:
        np.testing.assert_allclose(
            shared[name],
            alone[name],
            rtol=TOLERANCES[kind],
            atol=TOLERANCES[kind] * np.abs(alone[name]).max(),
        )


@pytest.mark.parametrize("kind", TOLERANCES)
def test_both_processes_end_with_the_same_weights_and_ranges(done, kind):
    first, second = (np.load(done[1] / kind / f"end_{rank}.npz") for rank in (0, 1))
    assert any(name.endswith("@scale") for name in first)
    assert any(name.endswith(".w_0") for name in first)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.parametrize("kind", TOLERANCES)
def test_all_go_back_where_the_leading_one_measures_a_collapse(done, kind):
    one, two, metrics = done
    (went_back,) = metrics[kind]["rollbacks"]
    assert (went_back["step"], went_back["to"]) == (6, 3)
    np.testing.assert_array_equal(rows(two / kind, "mAP"), rows(one / kind, "mAP"))
    rates = rows(two / kind, "lr")
    if kind == "levels":  # a cosine
        assert rates[3] == pytest.approx(0.3 * rates[0] * (1 + np.cos(np.pi * 3 / several.STEPS)) / 2)
    else:
        assert rates[-1] == pytest.approx(0.3 * rates[0])


def test_the_leading_process_alone_writes(done):
    left = {path.name for path in (done[1] / "lsq/work1").rglob("*") if path.is_file()}
    assert left <= {"qat.csv"}
    assert not (done[1] / "lsq/model1").exists()


def test_two_processes_calibrate_as_one(done):
    """Each observes one of the two batches; the ranges, scales and integers that come out are the same."""
    one, two = (open_network(ModelFolder.open(folder / "ptq/model0")) for folder in done[:2])
    assert done[2]["ptq"]["calibration_images"] == 2 * several.IMAGES
    assert one.tensors.keys() == two.tensors.keys() and len(one.tensors) > 4
    for name, params in one.tensors.items():
        assert repr(two.tensors[name]) == repr(params)
    for name, value in one.values.items():
        np.testing.assert_array_equal(two.values[name], value, err_msg=name)
