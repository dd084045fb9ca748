"""VisualDL's log says what the CSV files say, and is one curve after a resume."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from picoquant.config.recipe import load_recipe
from picoquant.config.training import scalar_folder
from picoquant.errors import ConfigError
from picoquant.storage.csv_log import CsvLog, read_rows
from picoquant.training.scalar_log import FILE, ScalarLog
from tests.training import tiny
from tests.training.test_loop import wait_for_step

INSTALLED = importlib.util.find_spec("visualdl") is not None
needs_visualdl = pytest.mark.skipif(not INSTALLED, reason="needs visualdl: pip install 'picoquant[visualdl]'")


def read_back(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from visualdl import LogReader

    reader = LogReader(file_path=str(folder / FILE))
    tags = reader.get_tags()["scalar"]
    return {tag: [(item.id, item.value) for item in reader.get_data("scalar", tag)] for tag in tags}


def as_scalars(group: str, path: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for row in read_rows(path):
        for name in row.keys() - {"step", "epoch"}:
            found.setdefault(f"{group}/{name}", []).append((int(row["step"]), pytest.approx(row[name])))
    return found


@needs_visualdl
def test_the_log_continues_from_the_rows_that_stay(tmp_path):
    rows = CsvLog(tmp_path / "metrics.csv", ["step", "epoch", "loss"])
    for step in (1, 2, 3):
        rows.write(step=step, epoch=1, loss=4 - step)
    (tmp_path / "log").mkdir()
    (tmp_path / "log/notes.txt").write_text("mine")
    for _ in range(2):  # the second time there is a log already
        with ScalarLog(tmp_path / "log", [("train", tmp_path / "metrics.csv", 2)]) as log:
            log.write("train", {"step": 3, "epoch": 1, "loss": 0.5})
            log.write("evaluation", {"step": 3, "epoch": 1, "mAP": 0.25})
        assert read_back(tmp_path / "log") == {
            "train/loss": [(1, 3), (2, 2), (3, 0.5)],
            "evaluation/mAP": [(3, 0.25)],
        }
    assert (tmp_path / "log/notes.txt").read_text() == "mine"


@needs_visualdl
def test_a_killed_training_leaves_one_curve(tmp_path):
    script = Path(tiny.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(script.parents[2]), *sys.path])}
    command = [sys.executable, str(script), str(tmp_path), json.dumps({"checkpoint_steps": 2})]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for_step(tmp_path, 5, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    log = tmp_path / "work/vdl"
    result = tiny.run(tmp_path, scalars=log, checkpoint_steps=2)
    work = tmp_path / "work"
    expected = as_scalars("train", work / "metrics.csv")
    expected.update(as_scalars("evaluation", work / "evaluations.csv"))
    assert read_back(log) == expected
    assert len(expected["train/loss"]) == 3 * tiny.STEPS_PER_EPOCH and len(expected["evaluation/mAP"]) == 3
    result.write(tmp_path / "out")
    assert read_back(tmp_path / "out/vdl") == expected


def recipe(**changes):
    return load_recipe(tiny.CONFIG, [f"{key}={value}" for key, value in changes.items()])


@pytest.mark.skipif(INSTALLED, reason="checks what is said without visualdl, which is installed here")
def test_without_the_package_the_error_says_how_to_get_it(tmp_path):
    with pytest.raises(ConfigError, match=r"use_vdl.*pip install 'picoquant\[visualdl\]'"):
        scalar_folder(recipe(use_vdl="true"), tmp_path)
    with pytest.raises(ConfigError, match="visualdl"):
        ScalarLog(tmp_path)


def test_the_keys(tmp_path):
    assert scalar_folder(recipe(), tmp_path) is None
    assert scalar_folder(recipe(vdl_log_dir="logs"), tmp_path) is None
    with pytest.raises(ConfigError, match="use_vdl: expected true or false, found 'maybe'"):
        scalar_folder(recipe(use_vdl="maybe"), tmp_path)
    with pytest.raises(ConfigError, match="vdl_log_dir: expected a folder, found 3"):
        scalar_folder(recipe(vdl_log_dir=3), tmp_path)
    if INSTALLED:
        assert scalar_folder(recipe(use_vdl="true"), tmp_path) == tmp_path
        assert scalar_folder(recipe(use_vdl="true", vdl_log_dir="logs"), tmp_path) == Path("logs")
