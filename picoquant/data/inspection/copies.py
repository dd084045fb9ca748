"""Image files that have the same content, found without reading most of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from picoquant.data.dataset import Dataset
from picoquant.storage.files import sha256

_SAMPLE = 4096  # bytes from the middle of a file, which tell most files of one size apart


def same_content(paths: Sequence[str]) -> list[list[int]]:
    """Groups of files with the same bytes, as places in `paths`; files that are not there are in none.

    Only files of the same size are opened, only those whose middle is the same are read; links to one file count
    as the same without being opened.
    """
    places: dict[Hashable, list[int]] = {}
    sizes: dict[str, int] = {}
    for place, path in enumerate(paths):
        try:
            status = os.stat(path)
        except OSError:
            continue
        mine = places.setdefault((status.st_dev, status.st_ino), [])
        mine.append(place)
        sizes[paths[mine[0]]] = status.st_size
    first = {paths[group[0]]: group for group in places.values()}
    groups = [list(first)]
    for key in (sizes.__getitem__, lambda path: _middle(path, sizes[path]), lambda path: sha256(Path(path))):
        groups = [part for group in groups if len(group) > 1 for part in _parted(group, key)]
    joined = {path: group for group in groups if len(group) > 1 for path in group}
    found = [group for path, group in first.items() if len(group) > 1 and path not in joined]
    found += [sorted(place for path in group for place in first[path]) for group in groups if len(group) > 1]
    return sorted(found)


def _parted(paths: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    parts: dict[Hashable, list[str]] = {}
    for path in paths:
        try:
            parts.setdefault(key(path), []).append(path)
        except OSError:  # cannot be read; that is said elsewhere
            continue
    return list(parts.values())


def _middle(path: str, size: int) -> bytes:
    with open(path, "rb") as stream:
        stream.seek(max(size - _SAMPLE, 0) // 2)
        return stream.read(_SAMPLE)


def copies(datasets: Mapping[str, Dataset]) -> tuple[list[list[str]], list[list[str]]]:
    """Images with the same content: groups of paths within one data set, and groups over several (leaks).

    In both, paths are in the order of the data sets; a group of leaks begins with a path of the first data set in it.
    """
    owners = [(section, record.path) for section, dataset in datasets.items() for record in dataset.records]
    within, over = [], []
    for group in same_content([path for _, path in owners]):
        sections = [owners[place][0] for place in group]
        if len(set(sections)) > 1:
            over.append([owners[place][1] for place in group])
        for section in dict.fromkeys(sections):
            if sections.count(section) > 1:
                within.append([owners[place][1] for place in group if owners[place][0] == section])
    return within, over
