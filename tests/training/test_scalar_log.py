"""The logs of viewers and trackers say what the CSV files say, and are one curve after a resume."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from picoquant.config.recipe import load_recipe
from picoquant.config.training import scalar_settings
from picoquant.errors import ConfigError, ToolError
from picoquant.storage.csv_log import CsvLog, read_rows
from picoquant.training.scalar_log import ScalarLog, ScalarSettings
from picoquant.training.scalar_sinks import PACKAGES, VISUALDL_FILE
from tests.training import tiny
from tests.training.test_loop import wait_for_step

INSTALLED = {key: importlib.util.find_spec(module) is not None for key, (_, module) in PACKAGES.items()}


def needs(key: str) -> pytest.MarkDecorator:
    extra, module = PACKAGES[key]
    return pytest.mark.skipif(not INSTALLED[key], reason=f"needs {module}: pip install 'picoquant[{extra}]'")


Scalars = dict[str, list[tuple[int, float]]]


def of_visualdl(folder: Path) -> Scalars:
    from visualdl import LogReader

    reader = LogReader(file_path=str(folder / VISUALDL_FILE))
    tags = reader.get_tags()["scalar"]
    return {tag: [(item.id, item.value) for item in reader.get_data("scalar", tag)] for tag in tags}


def of_tensorboard(folder: Path) -> Scalars:
    """The events of all files that TensorBoard would show, in the order of writing."""
    from tensorboardX.proto.event_pb2 import Event

    found: Scalars = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        records, at = file.read_bytes(), 0
        while at < len(records):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack_from("<Q", records, at)
            event = Event.FromString(records[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def as_scalars(group: str, path: Path) -> Scalars:
    found: Scalars = {}
    for row in read_rows(path):
        for name in row.keys() - {"step", "epoch"}:
            found.setdefault(f"{group}/{name}", []).append((int(row["step"]), pytest.approx(row[name])))
    return found


def three_rows(folder: Path) -> Path:
    rows = CsvLog(folder / "metrics.csv", ["step", "epoch", "loss"])
    for step in (1, 2, 3):
        rows.write(step=step, epoch=1, loss=4 - step)
    return folder / "metrics.csv"


def go_on_from_step_2(settings: ScalarSettings, csv: Path) -> None:
    with ScalarLog(settings, [("train", csv, 2)]) as log:
        log.write("train", {"step": 3, "epoch": 1, "loss": 0.5})
        log.write("evaluation", {"step": 3, "epoch": 1, "mAP": 0.25})


CURVE = {"train/loss": [(1, 3), (2, 2), (3, 0.5)], "evaluation/mAP": [(3, 0.25)]}
VIEWERS = [
    pytest.param("visualdl", of_visualdl, marks=needs("use_vdl"), id="visualdl"),
    pytest.param("tensorboard", of_tensorboard, marks=needs("use_tensorboard"), id="tensorboard"),
]


@pytest.mark.parametrize("viewer, read_back", VIEWERS)
def test_the_log_continues_from_the_rows_that_stay(viewer, read_back, tmp_path):
    csv = three_rows(tmp_path)
    (tmp_path / "log").mkdir()
    (tmp_path / "log/notes.txt").write_text("mine")
    for _ in range(2):  # the second time there is a log already
        go_on_from_step_2(ScalarSettings(**{viewer: tmp_path / "log"}), csv)
        assert read_back(tmp_path / "log") == CURVE
    assert (tmp_path / "log/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("viewer, read_back", VIEWERS)
def test_a_killed_training_leaves_one_curve(viewer, read_back, tmp_path):
    script = Path(tiny.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(script.parents[2]), *sys.path])}
    command = [sys.executable, str(script), str(tmp_path), json.dumps({"checkpoint_steps": 2})]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for_step(tmp_path, 5, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    log = tmp_path / "work" / viewer
    result = tiny.run(tmp_path, scalars=ScalarSettings(**{viewer: log}), checkpoint_steps=2)
    work = tmp_path / "work"
    expected = as_scalars("train", work / "metrics.csv")
    expected.update(as_scalars("evaluation", work / "evaluations.csv"))
    assert read_back(log) == expected
    assert len(expected["train/loss"]) == 3 * tiny.STEPS_PER_EPOCH and len(expected["evaluation/mAP"]) == 3
    result.write(tmp_path / "out")
    assert read_back(tmp_path / "out" / viewer) == expected


@needs("use_mlflow")
def test_mlflow_has_a_run_with_the_whole_curve(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    go_on_from_step_2(ScalarSettings(mlflow=True), three_rows(tmp_path))
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("picoquant").experiment_id])
    assert run.info.status == "FINISHED"
    found = {tag: client.get_metric_history(run.info.run_id, tag) for tag in run.data.metrics}
    assert {tag: [(item.step, item.value) for item in items] for tag, items in found.items()} == CURVE


@needs("use_mlflow")
def test_mlflow_that_keeps_no_runs_says_what_to_set(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    with pytest.raises(ToolError, match="use_mlflow: MLflow started no run: .*MLFLOW_TRACKING_URI"):
        ScalarLog(ScalarSettings(mlflow=True))


@needs("use_wandb")
def test_wandb_has_a_run_with_the_whole_curve(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    go_on_from_step_2(ScalarSettings(wandb=True), three_rows(tmp_path))
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert wandb_history(file) == CURVE


def wandb_history(file: Path) -> Scalars:
    from wandb.proto.wandb_internal_pb2 import Record

    records, at = file.read_bytes(), 7  # behind the file's header
    found: Scalars = {}
    while at + 7 <= len(records):  # checksum, length, kind (whole records: the file is small), record
        (length,) = struct.unpack_from("<H", records, at + 4)
        record = Record.FromString(records[at + 7 : at + 7 + length])
        at += 7 + length
        if record.HasField("history"):
            row = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            for tag in row:
                if "/" in tag:
                    found.setdefault(tag, []).append((row["step"], row[tag]))
    return found


class Broken:
    """A log that fails at its second row."""

    def __init__(self) -> None:
        self.rows = 0

    def write(self, values, step) -> None:
        self.rows += 1
        if self.rows == 2:
            raise ConnectionError("nobody there")

    def close(self, failed) -> None:
        raise AssertionError("closed after it was left out")


def test_a_log_that_fails_is_left_out_with_a_warning(caplog):
    log = ScalarLog(ScalarSettings())
    broken = Broken()
    log._sinks["use_mlflow"] = broken
    with log:
        for step in (10, 20, 30):
            log.write("train", {"step": step, "epoch": 1, "loss": 1.0})
    assert broken.rows == 2
    assert [record.getMessage() for record in caplog.records] == [
        "use_mlflow: left out from step 20 on: nobody there"
    ]


def recipe(**changes):
    return load_recipe(tiny.CONFIG, [f"{key}={value}" for key, value in changes.items()])


@pytest.mark.parametrize("key", PACKAGES)
def test_without_the_package_the_error_says_how_to_get_it(key, tmp_path):
    extra, module = PACKAGES[key]
    if INSTALLED[key]:
        assert scalar_settings(recipe(**{key: "true"}), tmp_path) != ScalarSettings()
        return
    with pytest.raises(ConfigError, match=rf"{key}: true .*{module}: pip install 'picoquant\[{extra}\]'"):
        scalar_settings(recipe(**{key: "true"}), tmp_path)


def test_the_keys(tmp_path):
    assert scalar_settings(recipe(), tmp_path) == ScalarSettings()
    assert (
        scalar_settings(recipe(vdl_log_dir="logs", tensorboard_log_dir="logs"), tmp_path) == ScalarSettings()
    )
    for key in PACKAGES:
        with pytest.raises(ConfigError, match=f"{key}: expected true or false, found 'maybe'"):
            scalar_settings(recipe(**{key: "maybe"}), tmp_path)
    for key in ("vdl_log_dir", "tensorboard_log_dir"):
        with pytest.raises(ConfigError, match=f"{key}: expected a folder, found 3"):
            scalar_settings(recipe(**{key: 3}), tmp_path)


@needs("use_tensorboard")
def test_the_folder_of_a_viewer(tmp_path):
    assert scalar_settings(recipe(use_tensorboard="true"), tmp_path).tensorboard == tmp_path / "tensorboard"
    chosen = scalar_settings(recipe(use_tensorboard="true", tensorboard_log_dir="logs"), tmp_path)
    assert chosen == ScalarSettings(tensorboard=Path("logs"))
