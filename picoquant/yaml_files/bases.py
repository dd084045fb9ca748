"""Where the `_BASE_` files of a PaddleDetection file are: beside it, or else among picoquant's own.

PaddleDetection has bases of the same name and other content: those of 2022, and those of 2021.10 in
`legacy_model`. So bases that are not beside a file are looked up as if the file stood in one of our
folders: that of our file of the same name, else the one where most of its bases are. A shipped recipe is a
base, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from picoquant.errors import ConfigError
from picoquant.yaml_files.locate import shipped_files, shipped_folder

LOG = logging.getLogger("picoquant")

_LEGACY = "legacy_model"  # PaddleDetection's folder of the configurations of 2021.10


def base_files(path: Path, bases: Sequence[str]) -> list[Path]:
    """The files that the `_BASE_` entries of `path` name.

    Raises: `ConfigError` for one that is neither beside `path` nor shipped.
    """
    try:
        beside = {base: (path.parent / Path(base).expanduser()).resolve() for base in bases}
        missing = [base for base, file in beside.items() if not file.is_file()]
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # no home of that name, a zero byte, a circle of links
        raise ConfigError(f"{path}: _BASE_ names no file ({error})") from error
    if not missing:
        return [beside[base] for base in bases]
    tries = [{base: _ours(folder, base) for base in missing} for folder in _folders(path)]
    ours = max(tries, key=lambda found: sum(file is not None for file in found.values()))
    for base, file in ours.items():
        if file is None:
            raise ConfigError(f"{path}: _BASE_ {base} does not exist (looked for {beside[base]})")
        LOG.info("%s: _BASE_ %s is not beside it; picoquant's own is used", path.name, base)
    return [ours.get(base) or beside[base] for base in bases]


def _folders(path: Path) -> Iterator[Path]:
    """Our folders that `path` may belong to, the likeliest first."""
    root = shipped_folder("configs")
    namesake = shipped_files("configs").get(path.stem)
    if namesake is not None:
        yield namesake.parent
    if _LEGACY in path.parts:
        yield root / _LEGACY
    yield root
    yield from sorted(folder.parent for folder in root.rglob("_base_") if folder.parent != root)


def _ours(folder: Path, base: str) -> Path | None:
    """The end of `base` that exists in our `folder` or above it, the longest and nearest first."""
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
