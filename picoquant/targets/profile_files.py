"""The YAML files of target profiles: which there are, where one is, what it holds with its bases."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picoquant.errors import ConfigError
from picoquant.yaml_files.load import load_mapping, merge
from picoquant.yaml_files.locate import shipped, shipped_names

_FOLDER = "npu_targets"
_SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # a target's name is used as the name of a folder
_BASE = "_BASE_"


def known_targets() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return shipped_names(_FOLDER)


def read_profile(path: Path, above: tuple[Path, ...] = ()) -> Mapping[str, Any]:
    """The YAML mapping of a profile, not yet validated.

    A profile with the key `_BASE_` has all keys of another one, a file beside it or a shipped target, and its own over
    these.

    Args:
        path: the profile.
        above: those that have it as their base.

    Raises: `ConfigError` if it is no YAML mapping, if its file name is not valid as a target's name, or if a base is
        missing or goes round in a circle.
    """
    if not _NAME.fullmatch(path.stem):
        raise ConfigError(f"{path}: a target's file name is letters, digits, '_', '-' and '.'")
    values = dict(load_mapping(path))
    if _BASE not in values:
        return values
    base = values.pop(_BASE)
    if not isinstance(base, str):
        raise ConfigError(f"{path}: {_BASE}: the name of one target or file expected, found {base!r}")
    if path in above:
        raise ConfigError(f"{path}: {_BASE} goes round in a circle")
    beside = path.parent / base
    try:
        found = (
            beside
            if beside.is_file()
            else profile_path(Path(base).stem if Path(base).parent == Path(".") else base)
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {_BASE}: {error}") from error
    return merge(read_profile(found, (*above, path)), values)


def profile_path(name: str | Path) -> Path:
    """The path of a target's profile, shipped or a user's own.

    Raises: `ConfigError` for an unknown target.
    """
    name = str(name)
    if name in known_targets():
        return shipped(_FOLDER, name)
    path = Path(name).expanduser()
    if path.suffix in _SUFFIXES or path.parent != Path("."):
        if path.is_file():
            return path
        raise ConfigError(f"no such target file: {name}; shipped targets: {_listing(path.stem)}")
    raise ConfigError(
        f"unknown target {name}; known, the nearest first: {_listing(name)}; or name a YAML file of your own"
    )


def _listing(name: str) -> str:
    """Names of the shipped targets, the most similar to `name` first, separated by commas."""

    def distance(known: str) -> tuple[float, str]:
        return -difflib.SequenceMatcher(None, name.lower(), known.lower()).ratio(), known

    return ", ".join(sorted(known_targets(), key=distance))
