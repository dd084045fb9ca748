"""What lies at a path -> settings of data sets: the one place where a command's PATH is recognised."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from picoquant.data.formats.folder import recognise
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

# Part of a data set -> the section that reads it; a test set is evaluated on where there is no other.
_SECTIONS = {"train": "TrainDataset", "val": "EvalDataset", "test": "EvalDataset", "all": "TrainDataset"}
_EVALUATED = ("val", "valid", "validation", "test")
_ROLE = re.compile(r"(?<![a-z])(train|validation|valid|val|test)(?![a-z])", re.IGNORECASE)
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_NAMES, _FOLDERS = 20, 500  # images that are looked for, and folders they are looked for in


def data_sets_at(path: Path) -> list[DatasetSettings]:
    """The data sets at a path: `TrainDataset`, `EvalDataset` or both.

    A JSON file is COCO; its images are looked for around it. A list in `ImageSets/Main` is VOC. What a folder, or the
    data.yaml of YOLO, holds is recognised as for `--data`.

    Raises: `DataError` saying what was looked for.
    """
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".json":
        return [_coco(path, _section(path, path.parent.parent))]
    if path.is_file() and suffix == ".txt" and len(path.parents) > 2:
        root = path.parents[2]
        if (root / "Annotations").is_dir():
            return [_voc(root, path, _section(path, path.parent))]
    if path.is_file() and suffix not in (".yaml", ".yml"):
        raise DataError(
            f"{path} is neither a COCO JSON file, YOLO's data.yaml nor a list in ImageSets/Main of a VOC folder"
        )
    if not path.exists():
        raise DataError(f"there is no {path}; name a folder or an annotation file")
    found = recognise(path)
    sections: dict[str, DatasetSettings] = {}
    for part, section in _SECTIONS.items():
        if part in found.parts:
            sections.setdefault(section, replace(found.parts[part], section=section))
    return list(sections.values())


def _role(file: Path, below: Path) -> str | None:
    """`train`, `val`, `test` …, from the name of a file or of its folder."""
    found = _ROLE.findall(str(file.relative_to(below)))
    return found[-1].lower() if found else None


def _section(file: Path, below: Path) -> str:
    """`EvalDataset` for a file that is called val or test, `TrainDataset` for any other."""
    return "EvalDataset" if _role(file, below) in _EVALUATED else "TrainDataset"


def _voc(root: Path, listed: Path, section: str) -> DatasetSettings:
    return DatasetSettings("voc", str(root), anno_path=str(listed.relative_to(root)), section=section)


def _coco(file: Path, section: str) -> DatasetSettings:
    root, folder = _image_folder(file)
    images = str(folder.relative_to(root))
    return DatasetSettings(
        "coco",
        str(root),
        "" if images == "." else images,
        anno_path=str(file.relative_to(root)),
        section=section,
    )


def _image_folder(file: Path) -> tuple[Path, Path]:
    """A folder with annotation file and images, and that of them in which its first images are; both are the file's
    own where they are nowhere.

    Of several the one with most of them, then one that is called as the file is (`train`), then the nearest.
    """
    names = list(islice(_names(file), _NAMES))
    role = _role(file, file.parent.parent)
    for base in (file.parent, file.parent.parent):
        best, most = None, (0, False)
        for folder in islice(_folders(base), _FOLDERS):
            count = sum(os.path.exists(folder / name) for name in names)
            rank = (count, bool(role) and _role(folder, base) == role)
            if count and rank > most:
                best, most = folder, rank
        if best is not None:
            return base, best
    return file.parent, file.parent


def _names(file: Path) -> Iterator[str]:
    """The names of images in a COCO file, without parsing it."""
    with open(file, "rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for match in _FILE_NAME.finditer(data):
                try:
                    yield str(json.loads(match.group(1))).replace("\\", "/")
                except ValueError:
                    return


def _folders(base: Path) -> Iterator[Path]:
    """A folder and those below it, two levels deep."""
    below = sorted(_inside(base))
    yield base
    yield from below
    for folder in below:
        yield from sorted(_inside(folder))


def _inside(folder: Path) -> Iterable[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []
