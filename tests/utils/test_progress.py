from __future__ import annotations

import logging

import pytest

from picoquant.utils import progress
from picoquant.utils.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59, "59s"), (125, "2m05s"), (3780, "1h03m"), (90000, "25h00m")]
)
def test_durations_are_said_as_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_speed_and_time_left_forget_a_slow_start(monkeypatch, caplog):
    # 100 s for the first step, then one a second: after 200 more the last minute counts, 1 step/s.
    clock = iter([0.0, *(100.0 + second for second in range(201))])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    line = Progress("train", 301)
    with caplog.at_level(logging.INFO, logger="picoquant"):
        for step in range(1, 202):
            line.update(step, loss=0.5)
    assert caplog.messages[0].startswith("train step 1/301  loss 0.5  0.01 step/s")
    assert "1.00 step/s  1m" in caplog.messages[-1]
    assert len(caplog.messages) <= 22  # a line every 10 s, not one a step


def test_on_a_terminal_what_takes_under_two_seconds_shows_nothing(monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress.LOG, "level", logging.INFO)
    clock = iter([0.0, 0.5, 1.9, 2.1, 3.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    line = Progress("evaluate", 4, "image")
    line.update(1)
    line.update(2)
    assert capsys.readouterr().err == ""
    line.update(3)
    assert "evaluate image 3/4" in capsys.readouterr().err
    line.update(4)
    assert capsys.readouterr().err.endswith("\n")
