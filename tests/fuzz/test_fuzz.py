"""A small share of the fuzzing, always the same cases; `python -m tests.fuzz.fuzz` runs as many as wanted."""

from __future__ import annotations

import logging

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
