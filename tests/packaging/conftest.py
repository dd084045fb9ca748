"""The board's program, built once for all tests of it; a package."""

from __future__ import annotations

import shutil

import pytest

from picoquant.packaging.package import Models, package
from picoquant.targets.profiles import load_target
from tests.packaging.board import SANITIZED, SOURCE, build
from tests.packaging.contents import FACTS
from tests.packaging.live import Live, build_devices


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Without a runtime and without OpenCV, with sanitizers."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    return build(SOURCE, tmp_path_factory.mktemp("board"), "-DUSE_OPENCV=OFF", *SANITIZED)


@pytest.fixture(scope="session")
def devices(tmp_path_factory):
    return build_devices(tmp_path_factory.mktemp("devices"))


@pytest.fixture
def live(program, devices, tmp_path):
    return Live(program, devices, tmp_path)


@pytest.fixture(scope="session")
def jpeg(program):
    cache = (program.parent / "CMakeCache.txt").read_text()
    if "JPEG_LIBRARY_RELEASE:FILEPATH=/" not in cache:
        pytest.skip("libjpeg's development files are not installed: apt-get install libjpeg-dev")


@pytest.fixture(scope="module")
def made(small, opt, tmp_path_factory):
    """For rv1126, of the small model."""
    out = tmp_path_factory.mktemp("package")
    return package(Models(small), load_target("rv1126"), out, opt, FACTS)
