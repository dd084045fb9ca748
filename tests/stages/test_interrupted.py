"""Runs that are killed, interrupted, full or diverging: what is kept, what is said, what continues."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from picoquant.storage.files import sha256
from tests.command_line import SMALL, picoquant, refusal, with_sets

TWO_EPOCHS = [text for text in SMALL if not text.startswith("epoch=")] + ["epoch=2", "snapshot_epoch=1"]


def train_arguments(folder, *more):
    return ["train", "-c", "quickstart", "--save-dir", folder, *with_sets([*TWO_EPOCHS, *more])]


def weights(folder):
    from picoquant.detector.weights import read_weights

    return read_weights(folder / "train/last.pdparams")


def started(arguments, until):
    """The command in the background, once file `until` is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "picoquant", *map(str, arguments)], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not until.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, f"{until} did not appear"
        time.sleep(0.02)
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = picoquant(*train_arguments(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_two_runs_with_one_seed_give_the_same_weights(undisturbed, tmp_path):
    assert picoquant(*train_arguments(tmp_path)).returncode == 0
    first, second = weights(undisturbed), weights(tmp_path)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert picoquant(*train_arguments(tmp_path / "other", "Global.seed=1")).returncode == 0
    other = weights(tmp_path / "other")
    assert not all(np.array_equal(first[name], other[name]) for name in first)


def test_a_killed_training_continues_to_the_same_weights(undisturbed, tmp_path):
    keep = tmp_path / ".work/train/keep"
    process = started(train_arguments(tmp_path), keep / "evaluations.csv")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "train").exists()
    done = picoquant(*train_arguments(tmp_path))
    assert done.returncode == 0, done.stderr
    first, second = weights(undisturbed), weights(tmp_path)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(tmp_path, sent, code):
    process = started(train_arguments(tmp_path, "epoch=50"), tmp_path / ".work/train/keep/checkpoints")
    process.send_signal(sent)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert "the same command continues where it stopped" in stderr.splitlines()[-1]


def test_a_diverging_training_names_step_and_rate(tmp_path):
    line = refusal(
        picoquant(
            *train_arguments(tmp_path, "LearningRate.base_lr=1e12", "LearningRate.schedulers.1.steps=1")
        )
    )
    assert "diverged at step" in line and "LearningRate.base_lr" in line
    assert not (tmp_path / "train").exists()


def test_a_full_disk_is_one_line(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        line = refusal(picoquant(*train_arguments(disk / "out")))
        assert "are free; free some space" in line  # said before the first step
        assert not (disk / "out/train").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_second_run_on_the_same_folder_is_refused(tmp_path):
    process = started(train_arguments(tmp_path, "epoch=50"), tmp_path / ".work/train/keep/metrics.csv")
    try:
        assert f"in use by process {process.pid}" in refusal(picoquant(*train_arguments(tmp_path)))
    finally:
        process.kill()
        process.communicate()


def test_a_folder_without_permission_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "permission denied" in refusal(picoquant(*train_arguments(tmp_path / "closed/out")))


def quantise_arguments(folder):
    sets = with_sets([*TWO_EPOCHS, "TrainConfig.train_iter=12", "TrainConfig.eval_iter=6"])
    return ["run", "-c", "quickstart", "--save-dir", folder, "--until", "quantize", *sets]


@pytest.fixture(scope="module")
def quantised(undisturbed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantised") / "whole"
    shutil.copytree(undisturbed, folder)
    done = picoquant(*quantise_arguments(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("sent", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_stopped_quantisation_continues_to_the_same_model(undisturbed, quantised, tmp_path, sent):
    stopped = tmp_path / "stopped"
    shutil.copytree(undisturbed, stopped)
    log = stopped / ".work/quantize/keep/qat.csv"
    process = started(quantise_arguments(stopped), log)
    while len(log.read_text().splitlines()) < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sent)
    stderr = process.communicate()[1]
    assert not (stopped / "quantize").exists()
    if sent == signal.SIGTERM:
        assert process.returncode == 143
        step = int(log.read_text().splitlines()[-1].split(",")[0])
        assert f"quantize: stopped after step {step}, which is saved" in stderr
    done = picoquant(*quantise_arguments(stopped))
    assert done.returncode == 0, done.stderr
    assert "train: skipped, done before" in done.stderr
    if sent == signal.SIGTERM:
        assert f"quantize: continuing after step {step} of an interrupted run" in done.stderr
    for name in ("model.pdiparams", "model.pdmodel", "qat.csv"):
        assert sha256(stopped / "quantize" / name) == sha256(quantised / "quantize" / name), name
