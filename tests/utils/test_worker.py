"""Questions to another process: answers, deaths, the next question after them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from picoquant.errors import ToolError
from picoquant.utils.subprocesses import clean_environment
from picoquant.utils.worker import Worker, WorkerEnded
from tests.processes import ended

SCRIPT = """
import os
import sys

def answerer(factor):
    print("printed by a library")
    os.write(1, b"written by native code")
    asked = []

    def answer(question):
        text = question if isinstance(question, str) else ""
        if text == "fail":
            raise ValueError("no such thing")
        if text == "names":
            return sorted({name.partition(".")[0] for name in sys.modules} & {"numpy", "picoquant", "progress"})
        asked.append(question)
        return len(asked), question * int(factor)

    return answer
"""


@pytest.fixture
def worker(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    script, python = tmp_path / "script.py", Path(sys.executable)
    with Worker(script, ("3",), python, clean_environment(), keep_stderr=True) as made:
        yield made


def test_it_answers_one_question_after_the_other_whatever_is_printed(worker, started):
    assert not worker.started and worker.ask("ab") == (1, "ababab") and worker.started
    assert worker.ask(b"x" * 3_000_000) == (2, b"x" * 9_000_000)  # more than a pipe holds
    count, found = worker.ask(np.arange(4))
    assert count == 3 and found.tolist() == [0, 3, 6, 9]
    assert len(started()) == 1


def test_only_the_standard_library_is_there_before_the_first_question(worker):
    assert worker.ask("names") == []


def test_a_failure_ends_it_and_its_last_words_are_kept(worker, started):
    worker.start()
    process = started()
    with pytest.raises(WorkerEnded) as error:
        worker.ask("fail")
    assert error.value.outcome.code == 1 and ended(process)
    lines = error.value.outcome.text.splitlines()
    assert lines[-1] == "ValueError: no such thing" and "printed by a library" in lines
    with pytest.raises(WorkerEnded):  # it does not come back by itself
        worker.ask("ab")
    worker.close()
    assert worker.ask("ab") == (1, "ababab")


def test_a_signal_is_named(worker, started):
    worker.start()
    (process,) = started()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(WorkerEnded, match="SIGKILL"):
        worker.ask("ab")


def test_it_ends_when_it_is_closed_and_not_by_ctrl_c(worker, started):
    assert worker.ask("a") == (1, "aaa")
    (process,) = started()
    os.kill(process, signal.SIGINT)
    os.kill(process, signal.SIGTERM)
    assert worker.ask("a") == (2, "aaa")
    worker.close()
    assert ended([process])


def test_an_interpreter_that_is_not_there(tmp_path):
    with (
        Worker(tmp_path / "script.py", (), tmp_path / "python", {}) as worker,
        pytest.raises(ToolError, match="cannot run .*python: No such file or directory"),
    ):
        worker.ask("a")
