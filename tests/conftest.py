"""Fixtures that every test folder may use."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import picoquant  # noqa: F401  zlib is loaded before paddle
from tests.networks.fixtures import *  # noqa: F403  what several folders share
from tests.processes import children

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def log_as_imported():
    """The command line, run in this process by an earlier test, leaves its handler and its level on our logger."""
    log = logging.getLogger("picoquant")
    log.handlers = []
    log.setLevel(logging.NOTSET)
    log.propagate = True


@pytest.fixture
def started():
    """The processes that the test has started and that run, by id."""
    before = children()
    return lambda: children() - before


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden outputs, real data and trained weights beside the checkout."""
    folder = (ROOT / ".." / "shared").resolve()
    if not folder.is_dir():
        pytest.skip("../shared (golden outputs, data sets and weights) is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def opt():
    """Paddle Lite's opt; without it the test is skipped with what to do."""
    from picoquant.backends.paddle_lite.toolchain import find_opt
    from picoquant.errors import ToolError

    try:
        return find_opt()
    except ToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def evaluated_run(tmp_path_factory):
    """A small run up to the evaluation, with what it said in stderr.txt; to be copied, not changed."""
    from tests.command_line import small_run

    folder = tmp_path_factory.mktemp("evaluated")
    done = small_run(folder, "evaluate")
    (folder / "stderr.txt").write_text(done.stderr)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Headless Chromium; without it the test is skipped."""
    from tests.report.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("no chromium on PATH; on Debian: apt-get install chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
