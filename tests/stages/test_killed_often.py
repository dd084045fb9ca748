"""`kill -9` at 50 seeded moments over train, export, quantize, evaluate and package.

    pytest -m slow tests/stages/test_killed_often.py -s

A run is killed again and again, each time continued by the same command, until it gets through; then the
next one begins, until 50 kills are done. Whatever stands outside the working folder after a kill must be,
byte for byte, what an undisturbed run leaves there; so must the finished runs.
"""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from picoquant.storage.files import sha256
from tests.command_line import SMALL, picoquant, with_sets

KILLS = 50
_SETS = [
    *(text for text in SMALL if not text.startswith(("epoch=", "worker_num=", "TrainConfig."))),
    "epoch=3", "snapshot_epoch=1", "worker_num=1", "TrainConfig.train_iter=6", "TrainConfig.eval_iter=2",
]  # fmt: skip
_FILES = (
    "train/best.pdparams", "train/last.pdparams", "export/model.pdmodel", "export/model.pdiparams",
    "quantize/model.pdmodel", "quantize/model.pdiparams", "evaluate/detections_fp32.json",
    "evaluate/detections_int8.json", "package/rv1126/model.nb", "package/rv1126.tar.gz",
)  # fmt: skip


def arguments(folder: Path) -> list[str]:
    return ["run", "-c", "quickstart", "--save-dir", str(folder), *with_sets(_SETS)]


def digests(folder: Path) -> dict[str, str]:
    return {name: sha256(folder / name) for name in _FILES if (folder / name).exists()}


def of_session(session: int) -> list[int]:
    """Processes, not yet ended, of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue  # ended meanwhile
        if int(number) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def killed_after(folder: Path, seconds: float) -> bool:
    """Run the command and kill it after so long; False when it was done before."""
    with open(folder.parent / "stderr.txt", "w+") as stderr:
        command = [sys.executable, "-m", "picoquant", *arguments(folder)]
        process = subprocess.Popen(command, stderr=stderr, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        else:
            stderr.seek(0)
            assert code == 0, stderr.read()
            return False
    deadline = time.monotonic() + 20
    while left := of_session(process.pid):
        assert time.monotonic() < deadline, f"processes {left} live on without the run that started them"
        time.sleep(0.1)
    return True


def stage_at_work(folder: Path) -> str:
    stages = json.loads((folder / "run.json").read_text())["stages"] if (folder / "run.json").exists() else {}
    return next((name for name, facts in stages.items() if facts["status"] == "running"), "none")


@pytest.mark.slow
def test_fifty_kills_leave_nothing_half_written(tmp_path, opt):
    whole = tmp_path / "whole"
    begun = time.monotonic()
    done = picoquant(*arguments(whole))
    assert done.returncode == 0, done.stderr
    seconds = time.monotonic() - begun
    expected = digests(whole)
    assert sorted(expected) == sorted(_FILES)
    chance = random.Random(2026)
    hit: collections.Counter[str] = collections.Counter()
    number = 0
    while sum(hit.values()) < KILLS:
        folder = tmp_path / f"run{number}"
        number += 1
        while sum(hit.values()) < KILLS and killed_after(folder, chance.uniform(1, 0.6 * seconds)):
            hit[stage_at_work(folder)] += 1
            found = digests(folder)
            assert found == {name: expected[name] for name in found}
        done = picoquant(*arguments(folder))  # undisturbed, whatever was left
        assert done.returncode == 0, done.stderr
        assert digests(folder) == expected
    print(f"{sum(hit.values())} kills in {number} runs of {seconds:.0f} s undisturbed; at work: {dict(hit)}")
