"""Files that a command makes: all of them written aside, then moved to where they belong."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from picoquant.errors import UserError
from picoquant.storage.files import disk_errors
from picoquant.yaml_files.load import dump_yaml


def refuse_overwriting(files: Sequence[Path], force: bool, sources: Sequence[Path]) -> None:
    """Find out before any work whether a file that will be written is there.

    Args:
        files: what will be written.
        force: whether the user said that files may be replaced; those that are read never are.
        sources: what is read.

    Raises: `UserError` naming the file.
    """
    read = {os.path.realpath(path) for path in sources}
    for file in files:
        if os.path.realpath(file) in read:
            raise UserError(f"{file} is read, and would be overwritten; choose another --out")
        if file.is_dir():
            raise UserError(f"{file} is a folder; choose another --out")
        if os.path.lexists(file) and not force:
            raise UserError(f"{file} is there already; choose another --out, or replace it with --force")


@contextmanager
def put_into(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files are moved into `folder` at the end of the block, JSON files last.

    If the block raises, `folder` is as it was.

    Raises: `UserError` when the disk is full or cannot be written.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"{there} is a file, not a folder; choose another --out")
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield work
            if not folder.exists():
                os.chmod(work, 0o755)
                os.rename(work, folder)
                return
            files = [Path(place, name) for place, _, names in os.walk(work) for name in names]
            for file in sorted(files, key=lambda file: (file.suffix == ".json", file)):
                target = folder / file.relative_to(work)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def recipe_lines(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of a recipe, as text that can be put into one."""
    return dump_yaml({name: dict(values) for name, values in sections.items()}).rstrip()
