"""One small run for the tests that look at what a run leaves."""

from __future__ import annotations

import pytest

from tests.commands import small_run


@pytest.fixture(scope="session")
def evaluated_run(tmp_path_factory):
    """A run up to the evaluation, with what it said in stderr.txt; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("evaluated")
    done = small_run(folder, "evaluate")
    (folder / "stderr.txt").write_text(done.stderr)
    return folder
