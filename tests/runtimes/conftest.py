"""A small run folder, made once."""

from __future__ import annotations

import shutil

import pytest

from tests.runtimes.run_folder import write_run


@pytest.fixture(scope="session")
def run_made(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run") / "output")


@pytest.fixture
def run_dir(run_made, tmp_path):
    """A folder with `output/` in it, to write to; its annotations stay where they were made."""
    shutil.copytree(run_made, tmp_path / "output")
    return tmp_path / "output"
