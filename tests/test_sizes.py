"""Files and folders stay small enough to be read: 400 lines, 15 modules."""

from __future__ import annotations

from pathlib import Path

import pytest

import picoquant

PACKAGE = Path(picoquant.__file__).parent
FOLDERS = sorted({file.parent for file in PACKAGE.rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE)))
def test_a_folder_can_be_taken_in(folder):
    modules = [file for file in folder.glob("*.py") if file.name != "__init__.py"]
    assert len(modules) <= 15
    lines = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in folder.glob("*.py")}
    assert {name: count for name, count in lines.items() if count > 400} == {}
