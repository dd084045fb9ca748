"""Several processes, started by paddle's own launcher on its CPU backend (gloo).

One process with the global batch and two with half of it each compute the same only where batch norm
does not look at the batch (`Train.freeze_batch_norm`), or at the images of all processes (`norm_type: sync_bn`, see
tests/training/joint_batch_norm). Curves are compared with it frozen: an untrained network on small images has channels
that hardly vary, and batch norm blows their rounding errors up.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import picoquant
from tests.command_line import SMALL, with_sets
from tests.command_line import picoquant as picoquant_command
from tests.training import several

ROOT = Path(picoquant.__file__).parents[1]
STEPS = 24
OPTIONS = {"batch_size": 2, "checkpoint_steps": 5}


def launch(script: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """Run a script in two processes."""
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    command = [*launcher, "--log_dir", str(folder / "log"), str(script), *arguments]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def launch_command(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """Run picoquant in two processes, by a script such as pip installs.

    `picoquant/__main__.py` as a script would put picoquant's own folders in front of packages of their names.
    """
    script = folder / "command.py"
    script.write_text('from picoquant.cli.main import main\n\nif __name__ == "__main__":\n    main()\n')
    return launch(script, *arguments, folder=folder)


def curve(folder: Path) -> list[dict[str, float]]:
    with open(folder / "work/metrics.csv", newline="", encoding="utf-8") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    return [{key: value for key, value in row.items() if key != "images_per_second"} for row in rows]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("group") / "one"
    folder.mkdir()
    several.run(folder, batch_size=4)
    return folder


@pytest.fixture(scope="module")
def two(one) -> Path:
    folder = one.parent / "two"
    script = Path(several.__file__)
    done = launch(script, str(folder), json.dumps(OPTIONS), folder=folder)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def test_two_processes_have_the_loss_curve_of_one_with_the_global_batch(one, two):
    alone, shared = curve(one), curve(two)
    assert len(alone) == len(shared) == STEPS
    for left, right in zip(alone, shared):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=1e-3), (left["step"], name)
    epochs = [sum(row["loss"] for row in alone if row["epoch"] == epoch) for epoch in (1, several.EPOCHS)]
    assert epochs[1] < 0.98 * epochs[0]  # learning moves the curve by far more than the tolerance


def test_both_processes_end_with_the_same_weights(two):
    first, second = (json.loads((two / f"end_{rank}.json").read_text()) for rank in (0, 1))
    assert first == second


def test_the_leading_process_alone_writes(two):
    assert (two / "work/last.pdparams").is_file()
    assert not (two / "other").exists()


def test_a_continued_training_ends_the_same(two):
    before, weights = curve(two), (two / "end_0.json").read_text()
    (two / f"work/checkpoints/step_{STEPS:09d}.ckpt").unlink()
    script = Path(several.__file__)
    done = launch(script, str(two), json.dumps(OPTIONS), folder=two)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert curve(two) == before
    assert (two / "end_0.json").read_text() == (two / "end_1.json").read_text() == weights


@pytest.mark.slow
def test_two_processes_learn_from_a_teacher_as_one_does(tmp_path):
    """The layers of its losses, too, are the same in both: the start is broadcast, gradients are averaged."""
    options = {"batch_size": 2, "teacher": True, "epochs": 2}
    (tmp_path / "one").mkdir()
    several.run(tmp_path / "one", **{**options, "batch_size": 4})
    done = launch(Path(several.__file__), str(tmp_path / "two"), json.dumps(options), folder=tmp_path / "two")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    alone, shared = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert len(alone) == len(shared) == 12 and alone[0]["loss_fgd"] > 0
    for left, right in zip(alone, shared):
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert right[name] == pytest.approx(value, rel=1e-3), (left["step"], name)
    ends = [json.loads((tmp_path / f"two/end_{rank}.json").read_text()) for rank in (0, 1)]
    assert ends[0] == ends[1] and any(name.startswith("adaptation.") for name in ends[0])


COMMAND = [
    "train", "--config", "quickstart.yaml", "--input-size", "64",
    "--set", "Synthetic.train_images=24", "--set", "Synthetic.val_images=4", "--set", "Synthetic.image_size=64",
    "--set", "TrainReader.batch_size=4", "--set", "epoch=2", "--set", "snapshot_epoch=1",
    "--set", "worker_num=0", "--set", "Train.reference_batch=64",
]  # fmt: skip


@pytest.mark.slow
def test_the_command_trains_in_two_processes_and_only_once(tmp_path):
    arguments = [*COMMAND, "--save-dir", str(tmp_path / "run")]
    done = launch_command(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log = (tmp_path / "run/run.log").read_text()
    assert "base_lr 0.00125 = 0.01 x 8 / 64, 8 images an update (2 x 4)" in log
    manifest = json.loads((tmp_path / "run/run.json").read_text())
    assert manifest["stages"]["train"]["status"] == "done"
    assert "train:" not in (tmp_path / "log/workerlog.1").read_text()
    assert launch_command(*arguments, folder=tmp_path).returncode == 0
    assert "skipped, done before" in (tmp_path / "run/run.log").read_text()


@pytest.mark.slow
def test_the_command_quantises_in_two_processes_and_only_once(tmp_path):
    texts = [*SMALL, "Quantize.reference_batch=8", "Quantize.training=configured"]
    arguments = ["-c", "quickstart.yaml", "--save-dir", str(tmp_path / "run"), *with_sets(texts)]
    before = picoquant_command("run", "--until", "export", *arguments)
    assert before.returncode == 0, before.stderr
    done = launch_command("quantize", *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log = (tmp_path / "run/run.log").read_text()
    assert "learning rate x 0.5 = 4 / 8, 4 images a step (2 x 2)" in log
    manifest = json.loads((tmp_path / "run/run.json").read_text())
    assert manifest["stages"]["quantize"]["status"] == "done"
    assert manifest["stages"]["quantize"]["metrics"]["steps"] == 2
    assert (tmp_path / "run/quantize/model.pdmodel").is_file()
    assert "quantize:" not in (tmp_path / "log/workerlog.1").read_text()
    assert launch_command("quantize", *arguments, folder=tmp_path).returncode == 0
    assert "quantize: skipped, done before" in (tmp_path / "run/run.log").read_text()


@pytest.mark.slow
def test_other_stages_are_refused_in_a_group(tmp_path):
    arguments = ["run", "--config", "quickstart.yaml", "--save-dir", str(tmp_path / "run")]
    done = launch_command(*arguments, folder=tmp_path)
    assert done.returncode != 0
    told = "for `picoquant train`, `picoquant quantize` or `picoquant eval` alone"
    assert told in (tmp_path / "log/workerlog.0").read_text()
