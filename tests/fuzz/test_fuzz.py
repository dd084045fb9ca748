"""A small share of the fuzzing, always the same cases; `python -m tests.fuzz.fuzz` runs as many as wanted."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from tests.fuzz.fuzz import fuzz
from tests.fuzz.kinds import kinds

CASES = {
    "coco": 150,
    "voc": 150,
    "images": 60,
    "recipes": 25,
    "overrides": 15,
    "profiles": 40,
    "infer_cfg": 150,
    "weights": 150,
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_ends_in_a_result_or_one_line(name):
    log = logging.getLogger("picoquant")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        counts, findings = fuzz(kinds()[name], CASES[name], 0)
    finally:
        log.setLevel(level)
    assert not findings
    assert counts["refused"] > 0
    assert sum(counts.values()) >= CASES[name] / 2


_SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("packages", 8),  # each makes a package; `python -m tests.fuzz.fuzz` runs thousands
        ("paddle", 20),
        pytest.param("bombs", 10, marks=_SLOW),
        pytest.param("onnx", 200, marks=_SLOW),
        pytest.param("programs", 60, marks=_SLOW),
    ],
)
def test_bad_packages_and_models_end_in_a_result_or_one_line(root, name, cases):
    """Each case is a fork; of a process of its own, as threads of earlier tests do not outlive a fork."""
    command = [sys.executable, "-m", "tests.fuzz.fuzz", "--kind", name, "--cases", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert f"{name}: " in done.stdout and "'refused'" in done.stdout
