"""What lies at a path -> settings of data sets: the one place where a command's PATH is recognised."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

_ROLES = {"train": "TrainDataset", "val": "EvalDataset", "valid": "EvalDataset", "validation": "EvalDataset"}
_ROLE = re.compile(r"(?<![a-z])(train|validation|valid|val|test)(?![a-z])", re.IGNORECASE)
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_NAMES, _FOLDERS = 20, 500  # images that are looked for, and folders they are looked for in


def data_sets_at(path: Path) -> list[DatasetSettings]:
    """The data sets at a path: `TrainDataset`, `EvalDataset` or both.

    A JSON file is COCO; its images are looked for around it. A list in `ImageSets/Main` is VOC. In a folder COCO's
    files are looked for first: in it, in `annotations` and in folders below it (as Roboflow exports them), told apart
    by `train`, `val`, `valid` or `test` in their names.

    Raises: `DataError` saying what was looked for.
    """
    if path.is_file():
        if path.suffix.lower() == ".json":
            return [_coco(path, _section(path, path.parent.parent))]
        if (
            path.suffix.lower() == ".txt"
            and len(path.parents) > 2
            and (path.parents[2] / "Annotations").is_dir()
        ):
            return [_voc(path.parents[2], path, _section(path, path.parent))]
        raise DataError(f"{path} is neither a COCO JSON file nor a list in ImageSets/Main of a VOC folder")
    if not path.is_dir():
        raise DataError(f"there is no {path}; name a folder or an annotation file")
    files = [*path.glob("*.json"), *path.glob("*/*.json")]
    found = _by_role(sorted(file for file in files if _is_coco(file)), path)
    if found:
        return [_coco(file, section) for section, file in found.items()]
    lists = sorted((path / "ImageSets/Main").glob("*.txt")) if (path / "Annotations").is_dir() else []
    found = _by_role(lists, path)
    if found:
        return [_voc(path, file, section) for section, file in found.items()]
    raise DataError(
        f"{path} holds no annotations that are recognised: neither COCO JSON (in it, in annotations/ or in folders "
        "such as train/ and valid/) nor VOC (Annotations/ and ImageSets/Main/); name the annotation file, or a "
        "configuration with --config"
    )


def _is_coco(file: Path) -> bool:
    """Whether a JSON file is meant as COCO, so that a damaged one is refused rather than passed by."""
    if file.name.startswith(("instances", "_annotations")):
        return True
    with open(file, "rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return all(data.find(key) >= 0 for key in (b'"images"', b'"annotations"'))


def _role(file: Path, below: Path) -> str | None:
    """`train`, `val`, `test` …, from the name of a file or of its folder."""
    found = _ROLE.findall(str(file.relative_to(below)))
    return found[-1].lower() if found else None


def _section(file: Path, below: Path) -> str:
    """`EvalDataset` for a file that is called val or test, `TrainDataset` for any other."""
    return {**_ROLES, "test": "EvalDataset"}.get(_role(file, below) or "", "TrainDataset")


def _by_role(files: list[Path], folder: Path) -> dict[str, Path]:
    """Section -> file; a test set is evaluated on where there is no other.

    Raises: `DataError` when two files may be the same section.
    """
    if len(files) == 1:
        return {_section(files[0], folder): files[0]}
    roles: dict[str, list[Path]] = {}
    for file in files:
        roles.setdefault(_role(file, folder) or "", []).append(file)
    found: dict[str, list[Path]] = {}
    for role, section in {**_ROLES, "test": "EvalDataset"}.items():
        if role != "test" or section not in found:
            found.setdefault(section, []).extend(roles.get(role, []))
            found = {section: listed for section, listed in found.items() if listed}
    for section, listed in found.items():
        instances = [file for file in listed if file.name.startswith("instances")]
        found[section] = instances if len(instances) == 1 else listed
        if len(found[section]) > 1:
            names = ", ".join(str(file) for file in found[section][:5])
            raise DataError(f"{folder} has several annotation files for {section}: {names}; name one of them")
    if files and not found:
        raise DataError(
            f"{folder} has {len(files)} annotation files, none with train or val in its name; name one of them, such "
            f"as {files[0]}"
        )
    return {section: listed[0] for section, listed in found.items()}


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
