"""Files that annotations name: found where they are, whatever slashes, case or leading folders their names have."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from picoquant.errors import DataError, reason_of

LOG = logging.getLogger("picoquant")

_DRIVE = re.compile(r"^[A-Za-z]:(?=[\\/])")


@dataclass(frozen=True)
class FoundFiles:
    """Files looked for by name.

    Attributes:
        paths: of each name its file, or where it would have been.
        missing: places of the names that have no file.
        renamed: places of those found under another name than written.
    """

    paths: list[str]
    missing: frozenset[int]
    renamed: tuple[int, ...]


def find_files(folder: Path, names: Sequence[str]) -> FoundFiles:
    r"""Find files by the names that annotations give them.

    A file is looked for as it is named, relative to `folder` or absolute. If it is not there, the name is read with
    `\` as `/`, then with other case or another Unicode form where only one file is so alike, then without its first
    folders, for paths of another machine. A file found so by two names is taken for neither. Each folder is listed
    once, which on a network disk is far quicker than asking for every file.

    Args:
        folder: where relative names count from.
        names: as written.
    """
    listing = Listing()
    if _are_plain(names) and listing.names(str(folder)).issuperset(names):
        return FoundFiles(paths_in(folder, names), frozenset(), ())
    written = [os.path.join(folder, name) for name in names]
    paths = [
        path if listing.holds(path) else listing.alike(str(folder), name)
        for path, name in zip(written, names)
    ]
    uses = Counter(paths)
    other = [place for place, path in enumerate(paths) if path != written[place]]
    missing = frozenset(place for place in other if paths[place] is None or uses[paths[place]] > 1)
    return FoundFiles(
        [written[place] if place in missing else path for place, path in enumerate(paths)],
        missing,
        tuple(place for place in other if place not in missing),
    )


def _are_plain(names: Sequence[str]) -> bool:
    """Whether every name is one of a file in a folder, and of no other name's file."""
    together = "".join(names)
    return not any(mark in together for mark in ("/", "\\", os.sep)) and len(set(names)) == len(names)


def paths_in(folder: Path, names: Sequence[str]) -> list[str]:
    """`os.path.join` of a folder with each of some names without a separator."""
    start = os.path.join(folder, "")
    return [start + name for name in names]


def tell_renamed(found: FoundFiles, names: Sequence[str], section: str, what: str) -> None:
    """Say how many files have another name than written, with the first."""
    if found.renamed:
        first = found.renamed[0]
        LOG.info(
            "%s: %d %s are found under another name than written, such as %s for %s",
            section,
            len(found.renamed),
            what,
            found.paths[first],
            names[first],
        )


def files_below(folder: Path | str, suffixes: Sequence[str]) -> list[str]:
    """Paths of the files in a folder and those below it, by their suffixes in any case; not sorted.

    Links to folders are followed, each folder is entered once, and none that the first one is in. What systems and
    tools leave behind (names that begin with a dot, `__MACOSX`) is passed by.

    Args:
        folder: where to look.
        suffixes: lower case, with the dot.
    """
    start, wanted = os.path.realpath(folder), tuple(suffixes)
    entered = {start}
    found: list[str] = []

    def is_new(path: str) -> bool:
        real = os.path.realpath(path)
        if real in entered or f"{start}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}"):
            return False
        entered.add(real)
        return True

    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".") and name != "__MACOSX" and is_new(os.path.join(place, name))
        ]
        found += [
            os.path.join(place, name)
            for name in names
            if name.lower().endswith(wanted) and not name.startswith(".")
        ]
    return found


@dataclass(frozen=True)
class Listing:
    """What folders hold; each is read once."""

    _names: dict[str, frozenset[str]] = field(default_factory=dict)
    _by_form: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def names(self, folder: str) -> frozenset[str]:
        """Names in a folder; none where it is not there."""
        if folder not in self._names:
            try:
                self._names[folder] = frozenset(os.listdir(folder or "."))
            except OSError:
                self._names[folder] = frozenset()
        return self._names[folder]

    def holds(self, path: str) -> bool:
        """Whether there is such a file."""
        folder, leaf = os.path.split(path)
        return leaf in self.names(folder)

    def alike(self, folder: str, name: str) -> str | None:
        """The file meant by a name that is not there as written; None for none, or several."""
        plain = _DRIVE.sub("", name).replace("\\", "/")
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        tries = [os.path.split(plain)] if plain.startswith("/") else []
        tries += [(os.path.join(folder, *parts[start:-1]), parts[-1]) for start in range(len(parts))]
        for parent, leaf in tries:
            if leaf in self.names(parent):
                return os.path.join(parent, leaf)
            meant = self._forms(parent).get(_form(leaf), [])
            if len(meant) == 1:
                return os.path.join(parent, meant[0])
            if meant:
                return None
        return None

    def _forms(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._by_form:
            forms: dict[str, list[str]] = {}
            for name in self.names(folder):
                forms.setdefault(_form(name), []).append(name)
            self._by_form[folder] = forms
        return self._by_form[folder]


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def read_text(path: Path, key: str) -> str:
    """The text of a file in UTF-8; `key` is what names it, for messages.

    Raises: `DataError` when it cannot be read or is no text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as text{reason_of(error)}; {key} names it") from error
    if "\0" in text:
        raise DataError(f"{path} is no text; {key} names it")
    return text


def read_lines(path: Path, key: str) -> list[str]:
    """The lines of a text file that are not empty, without the spaces around them.

    Raises: as `read_text`.
    """
    return [line.strip() for line in read_text(path, key).splitlines() if line.strip()]


def read_label_list(path: Path, section: str) -> tuple[str, ...]:
    """The class names of a `label_list`, one a line.

    Raises: `DataError` when it is not there, is empty or names a class twice.
    """
    if not path.is_file():
        raise DataError(f"no label list {path}; {section}.label_list names it")
    names = read_lines(path, f"{section}.label_list")
    if not names or len(set(names)) < len(names):
        raise DataError(f"label list {path} is empty or names a class twice; one class a line")
    return tuple(names)
