"""A full disk at each stage, a folder that becomes read-only, a clock that is set back.

The stages one by one are slow: pytest -m slow tests/stages/test_faults.py
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from picoquant.stages import order
from picoquant.storage.files import sha256
from tests.command_line import SMALL, picoquant, refusal, with_sets

STAGES = [stage.name for stage in order.STAGES]
_KEPT = ("best.pdparams", "model.pdmodel", "model.pdiparams", "detections_int8.json", "rv1126.tar.gz")


def arguments(folder, until):
    return ["run", "-c", "quickstart", "--save-dir", folder, "--until", until, *with_sets(SMALL)]


def digests(folder, stages=STAGES):
    """SHA-256 by name of the files that are the same each time."""
    return {
        str(path.relative_to(folder)): sha256(path)
        for stage in stages
        for path in sorted((folder / stage).glob("*"))
        if path.name in _KEPT
    }


def mount(*options):
    done = subprocess.run(["mount", *map(str, options)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, opt):
    folder = tmp_path_factory.mktemp("whole")
    done = picoquant(*arguments(folder, "package"))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 0.3, 0.7])
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_at_each_stage(whole, tmp_path, stage, room):
    """`room`: how much of what the stage leaves fits on the disk."""
    before = STAGES[: STAGES.index(stage)]
    size = sum(path.stat().st_size for path in (whole / stage).rglob("*"))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=1g", "tmpfs", disk)
    try:
        run = disk / "run"
        shutil.copytree(whole, run, ignore=shutil.ignore_patterns(*(set(STAGES) - set(before))))
        facts = json.loads((run / "run.json").read_text())
        facts["stages"] = {name: facts["stages"][name] for name in before}
        (run / "run.json").write_text(json.dumps(facts))
        left = shutil.disk_usage(disk)
        limit = left.used + int(room * size)
        mount("-o", f"remount,size={limit // 1024}k", disk)
        line = refusal(picoquant(*arguments(run, stage)))
        assert "disk is full" in line or "are free; free some space" in line
        assert digests(run) == digests(whole, before)  # what was there is whole, and nothing of this stage
        mount("-o", "remount,size=1g", disk)
        done = picoquant(*arguments(run, stage))
        assert done.returncode == 0, done.stderr
        assert digests(run) == digests(whole, [*before, stage])
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_becomes_read_only(tmp_path):
    run = tmp_path / "run"
    sets = with_sets([*SMALL, "epoch=200", "snapshot_epoch=1"])
    process = subprocess.Popen(
        [sys.executable, "-m", "picoquant", "train", "-c", "quickstart", "--save-dir", run, *sets],
        stderr=subprocess.PIPE,
        text=True,
    )
    keep = run / ".work/train/keep/checkpoints"
    try:
        while not keep.exists() or not any(keep.iterdir()):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        closed = subprocess.run(["chattr", "+i", keep], capture_output=True, text=True)
        if closed.returncode:
            pytest.skip(f"a folder cannot be made immutable here: {closed.stderr.strip()}")
        _, stderr = process.communicate(timeout=120)
    finally:
        process.kill()
        subprocess.run(["chattr", "-i", keep], capture_output=True)
    assert process.returncode == 2 and "Traceback" not in stderr
    assert "permission denied" in stderr.splitlines()[-1] and str(keep) in stderr.splitlines()[-1]
    assert not (run / "train").exists()


def test_no_time_of_day_decides(root):
    """Durations come from a clock that cannot be set; by a file's date the report warns, nothing else."""
    found = []
    for path in sorted(Path(root, "picoquant").rglob("*.py")):
        if path == root / "picoquant/commands/report.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if name in ("time.time", "time.localtime", "time.gmtime") or name.endswith(
                ("datetime.now", "date.today", ".st_mtime", ".st_mtime_ns", ".getmtime")
            ):
                found.append(f"{path.name}: {name}")
    assert not found
