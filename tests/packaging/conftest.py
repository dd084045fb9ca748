"""The board's program, built once for all tests of it."""

from __future__ import annotations

import shutil

import pytest

from tests.packaging.board import SANITIZED, SOURCE, build


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Without a runtime and without OpenCV, with sanitizers."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    return build(SOURCE, tmp_path_factory.mktemp("board"), "-DUSE_OPENCV=OFF", *SANITIZED)
