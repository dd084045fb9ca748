"""The command line in this process, and data sets to break."""

from __future__ import annotations

import json
import signal
from types import SimpleNamespace

import pytest

from picoquant.cli import console
from picoquant.cli.main import cli
from tests.data.coco_sets import annotation, coco_content, write_images


@pytest.fixture
def picoquant(capsys):
    """Runs `picoquant data WORDS`: exit code, what it printed, and what it said."""

    def run(*words):
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            code = console.run_to_exit(lambda: cli(["data", *map(str, words)], standalone_mode=False), False)
        finally:
            signal.signal(signal.SIGTERM, before)
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run


@pytest.fixture
def broken(tmp_path):
    """A writer of `root/train` and `root/val` as Roboflow exports them, two classes, edited by the caller."""

    def write(train=lambda content: None, val=lambda content: None, count=6):
        root = tmp_path / "set"
        for number, (part, edit) in enumerate((("train", train), ("valid", val))):
            names = write_images(root / part, count)
            for name in names:  # other pixels in each part
                path = root / part / name
                path.write_bytes(path.read_bytes() + bytes([number]))
            content = coco_content(names)
            content["annotations"].append(annotation(99, 1, 3, [1, 1, 30, 30]))
            edit(content)
            (root / part / "_annotations.coco.json").write_text(json.dumps(content))
        return root

    return write
