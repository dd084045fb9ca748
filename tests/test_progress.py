from __future__ import annotations

import logging

import pytest

from picoquant import progress
from picoquant.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59, "59s"), (125, "2m05s"), (3780, "1h03m"), (90000, "25h00m")]
)
def test_durations_are_said_as_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_speed_and_time_left_forget_a_slow_start(monkeypatch, caplog):
    # 100 s for the first step, then one a second: after 200 more the last minute counts, 1 step/s.
    clock = iter([0.0, *(100.0 + second for second in range(201))])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(logging.getLogger("picoquant"), "propagate", True)
    line = Progress("train", 301)
    with caplog.at_level(logging.INFO, logger="picoquant"):
        for step in range(1, 202):
            line.update(step, loss=0.5)
    assert caplog.messages[0].startswith("train step 1/301  loss 0.5  0.01 step/s")
    assert "1.00 step/s  1m" in caplog.messages[-1]
    assert len(caplog.messages) <= 22  # a line every 10 s, not one a step
