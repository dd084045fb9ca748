"""Packages that do not go together, installed as far as their metadata goes."""

from __future__ import annotations

import sys

import pytest

from picoquant.commands.mixtures import mixtures

BOTH = "paddlepaddle 2.6.2 and paddlepaddle-gpu 2.6.2 are both installed and write over each other's files"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """`installed(versions, files)`: packages by name, and the version that paddle's files say; nothing else."""

    def install(versions, files=""):
        for name, version in versions.items():
            folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if files:
            (tmp_path / "paddle" / "version").mkdir(parents=True)
            (tmp_path / "paddle" / "__init__.py").touch()
            (tmp_path / "paddle" / "version" / "__init__.py").write_text(
                f"full_version  = '{files}'\nmajor = '2'\n"
            )
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        monkeypatch.delitem(sys.modules, "paddle", raising=False)
        return [found for found, advice in mixtures() if advice]

    return install


@pytest.mark.parametrize(
    ("versions", "files", "said"),
    [
        ({"paddlepaddle": "2.6.2", "paddleslim": "2.6.0", "numpy": "1.26.4"}, "2.6.2", []),
        ({"paddlepaddle": "3.3.1", "numpy": "2.4.6"}, "3.3.1", []),
        ({"paddlepaddle-gpu": "2.6.2.post117", "numpy": "1.26.4"}, "2.6.2", []),
        ({}, "", []),
        ({"paddlepaddle": "2.6.2", "paddlepaddle-gpu": "2.6.2"}, "2.6.2", [BOTH]),
        (
            {"paddlepaddle": "3.3.1", "paddleslim": "2.6.0"}, "3.3.1",
            ["paddleslim 2.6.0 is for Paddle 2, and paddlepaddle is 3.3.1"],
        ),
        (
            {"paddlepaddle": "3.3.1"}, "2.6.2",
            ["the files of paddle are of version 2.6.2, paddlepaddle is installed in version 3.3.1"],
        ),
        (
            {"paddlepaddle": "2.6.2", "paddlepaddle-gpu": "3.3.1"}, "3.3.1",
            [
                "paddlepaddle 2.6.2 and paddlepaddle-gpu 3.3.1 are both installed and write over each other's files"
            ],
        ),
        (
            {"paddlepaddle": "3.4.0.dev20261001"}, "3.4.0.dev20261001",
            ["paddlepaddle 3.4.0.dev20261001 is no version that picoquant was tried with"],
        ),
        ({"paddlepaddle": "2.5.2"}, "2.5.2", ["paddlepaddle 2.5.2 is no version that picoquant was tried with"]),
        (
            {"paddlepaddle": "2.6.2", "numpy": "2.0.1"}, "",
            ["numpy 2.0.1 is newer than paddlepaddle 2.6.2 can use"],
        ),
        (
            {"opencv-python": "4.6.0.66", "opencv-python-headless": "5.0.0"}, "",
            ["opencv-python 4.6.0.66 and opencv-python-headless 5.0.0 write over each other's files"],
        ),
    ],
    ids=["2.6", "3", "a GPU's build", "nothing", "two paddles", "paddleslim", "files", "2 and 3", "a nightly build",
        "an older one", "numpy 2", "two OpenCVs"],
)  # fmt: skip
def test_each_is_named(installed, versions, files, said):
    assert installed(versions, files) == said
