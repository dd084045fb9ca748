"""Checkpoints: whole, damaged, old."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from picoquant.training.checkpoint import Checkpoint, Checkpoints, DamagedCheckpointError, read_checkpoint


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
