"""Find the `_BASE_` files of a PaddleDetection file: beside it, or else among those that picoquant ships.

PaddleDetection has bases of the same name and different content: those of 2022, and those of 2021.10 in
`legacy_model`. So the bases that are not beside a file are all searched from one shipped folder: the one from
which most of them are found; of several, the first of `_candidate_folders`. A shipped recipe can be a base
too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from picoquant.errors import ConfigError, reason_of
from picoquant.yaml_files.locate import shipped_files, shipped_folder

LOG = logging.getLogger("picoquant")

_LEGACY = "legacy_model"  # PaddleDetection's folder of the configurations of 2021.10


def base_files(path: Path, bases: Sequence[str]) -> list[Path]:
    """The files of the `_BASE_` entries of `path`, in their order.

    Raises: `ConfigError` for an entry that is neither beside `path` nor shipped, or no valid path.
    """
    try:
        beside = {base: (path.parent / Path(base).expanduser()).resolve() for base in bases}
        missing = [base for base, file in beside.items() if not file.is_file()]
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # unknown home folder, zero byte, circular links
        raise ConfigError(f"{path}: _BASE_ names no file{reason_of(error)}") from error
    if not missing:
        return [beside[base] for base in bases]
    tries = [{base: _shipped_base(folder, base) for base in missing} for folder in _candidate_folders(path)]
    shipped = max(tries, key=lambda found: sum(file is not None for file in found.values()))
    for base, file in shipped.items():
        if file is None:
            raise ConfigError(f"{path}: _BASE_ {base} does not exist (looked for {beside[base]})")
        LOG.info("%s: _BASE_ %s is not beside it; picoquant's own is used", path.name, base)
    return [shipped.get(base) or beside[base] for base in bases]


def _candidate_folders(path: Path) -> Iterator[Path]:
    """Shipped folders in which `path` may belong, the most likely first."""
    root = shipped_folder("configs")
    namesake = shipped_files("configs").get(path.stem)
    if namesake is not None:
        yield namesake.parent
    if _LEGACY in path.parts:
        yield root / _LEGACY
    yield root
    yield from sorted(folder.parent for folder in root.rglob("_base_") if folder.parent != root)


def _shipped_base(folder: Path, base: str) -> Path | None:
    """The shipped file for `base`: the longest trailing part of its path that exists in `folder` or above it.

    Otherwise a data set's file or a recipe of the same name; None if there is none either.
    """
    root = shipped_folder("configs")
    above = [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
    parts = [part for part in Path(base).parts if part not in ("..", ".", "/")]
    for start in range(len(parts)):
        for parent in above:
            file = parent.joinpath(*parts[start:])
            if file.is_file():
                return file
    others = [*(root / "datasets").glob("*"), *shipped_folder("recipes").glob("*")]
    return next((file for file in others if parts and file.name == parts[-1]), None)
