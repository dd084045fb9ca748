"""The benchmarks' own side still runs: it calls what is inside, which changes."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("script", "keys"),
    [("quantize_setup.py", {"setup", "step", "cpu", "megabytes"}), ("train_speed.py", {"wall", "cpu"})],
)
def test_picoquants_side_is_measured(root, script, keys):
    sizes = ["--size", "64", "--batch", "2", "--steps", "1"]
    command = [sys.executable, root / "benchmarks" / script, "--only", "picoquant", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert keys <= found.keys()
    assert all(math.isfinite(found[key]) and found[key] > 0 for key in keys)
