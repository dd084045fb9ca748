"""Checkpoints: whole, damaged, old."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from picoquant.errors import UserError
from picoquant.storage.checkpoints import (
    Checkpoint,
    Checkpoints,
    DamagedCheckpointError,
    array_bytes,
    read_checkpoint,
)


def checkpoint(value: float) -> Checkpoint:
    arrays = {"model": {"head.weight": np.full([2, 3], value, np.float32)}, "ema": {"average": np.zeros(0)}}
    return Checkpoint(arrays, {"step": int(value), "best": None})


def test_comes_back_as_it_was(tmp_path):
    path = Checkpoints(tmp_path).save(7, checkpoint(7))
    found = read_checkpoint(path)
    assert found.progress == {"step": 7, "best": None}
    assert sorted(found.arrays) == ["ema", "model"]
    weight = found.arrays["model"]["head.weight"]
    assert weight.dtype == np.float32 and np.array_equal(weight, np.full([2, 3], 7, np.float32))


def test_the_newest_is_used_and_the_oldest_go(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (9, 10, 11):
        checkpoints.save(step, checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000010.ckpt", "step_000000011.ckpt"]
    assert checkpoints.newest().progress["step"] == 11


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_one_is_named_and_passed_by(tmp_path, caplog, damage):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, checkpoint(1))
    path = checkpoints.save(2, checkpoint(2))
    content = bytearray(path.read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[:-10], "changed": content, "empty": b""}[damage])
    with pytest.raises(DamagedCheckpointError, match=r"step_000000002\.ckpt"):
        read_checkpoint(path)
    with caplog.at_level(logging.WARNING, logger="picoquant"):
        assert checkpoints.newest().progress["step"] == 1
    assert "step_000000002.ckpt is damaged" in caplog.text


def test_none_in_an_empty_or_missing_folder(tmp_path):
    assert Checkpoints(tmp_path).newest() is None
    assert Checkpoints(tmp_path / "none").newest() is None


def test_a_run_that_went_back_is_continued_from_where_it_went(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (10, 20, 30, 15):
        checkpoints.save(step, checkpoint(step))
    assert checkpoints.newest().progress["step"] == 15
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_000000015.ckpt"]


def test_room_is_asked_for_before(tmp_path):
    checkpoints = Checkpoints(tmp_path / "work", keep=2)
    checkpoints.require_room(array_bytes(checkpoint(1)))
    assert array_bytes(checkpoint(1)) == 24
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UserError, match=r"work need \d+\.\d MiB and \d+\.\d MiB are free; free some space"):
        checkpoints.require_room(free)


def test_a_killed_writer_leaves_the_checkpoint_before_it(tmp_path):
    """Killed 20 times at moments drawn from a seed, while it writes without pause."""
    code = (
        "import sys; import numpy as np; from picoquant.storage.checkpoints import Checkpoint, Checkpoints\n"
        "store = Checkpoints(sys.argv[1])\n"
        "found = store.newest(); step = found.progress['step'] if found else 0\n"
        "while True:\n"
        "    step += 1\n"
        "    store.save(step, Checkpoint({'model': {'a': np.full(200_000, step, np.float32)}}, {'step': step}))\n"
        "    print(step, flush=True)\n"
    )
    random, last = np.random.default_rng(0), 0
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        writer.stdout.readline()
        time.sleep(float(random.uniform(0, 0.05)))
        writer.kill()
        said = writer.communicate()[0].split()
        found = Checkpoints(tmp_path).newest()
        assert found.progress["step"] >= max([last, *map(int, said)])
        assert (found.arrays["model"]["a"] == found.progress["step"]).all()
        last = found.progress["step"]
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".ckpt"]) <= 3
