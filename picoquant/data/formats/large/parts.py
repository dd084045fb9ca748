"""A COCO file read in parts of a few megabytes, so that neither its text nor its entries are all in memory at once.

The file is cut between two entries. A part in which whole entries alone stand becomes columns; the others, among them
the first and the last, are joined to a document that has a mark in the place of each such part, and that is parsed as
it is. So the grammar of JSON itself says that every part stands where it is taken to stand: a file that was cut within
a text or a list of something else does not parse, or has its marks elsewhere.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar, Union

import numpy as np

from picoquant.data.formats.large.columns import Images, Objects, images_of, objects_of
from picoquant.data.formats.large.outlines import without_outlines
from picoquant.utils.helpers.helpers import Helpers

LISTS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*(,)\s*\{")
_PART = 4 << 20  # bytes
_RATE = 200e6  # bytes a second that a process reads, about
_NEAR = 1 << 16  # bytes in which the end of an entry is looked for
_MARK = "\0part"  # key of what stands for a part
_MARK_TEXT = rb"\u0000part"

Columns = TypeVar("Columns", Images, Objects)
Part = Union[Images, Objects, bytes, None]


@dataclass(frozen=True)
class PlainFile:
    """What a COCO file holds, with nothing unusual: its categories are as they were read."""

    images: Images
    objects: Objects
    categories: list[Any]


def read_in_parts(path: Path, helpers: Helpers) -> PlainFile | None:
    """Columns of a COCO file.

    Args:
        path: the file.
        helpers: processes that read a share of it.

    Returns: None for a file that cannot be read so, has anything unusual in an entry, or an annotation of no image or
        category of it. Nothing is wrong with it for that.
    """
    try:
        ranges = _ranges(path)
        parts = helpers.share(_read, ranges, ranges[-1].stop / _RATE)
        return None if any(part is None for part in parts) else _joined(parts)
    except (OSError, ValueError, RecursionError):  # whoever reads the whole says what is wrong
        return None


def text_without_outlines(path: Path) -> bytes:
    """The whole text of a COCO file but for its outlines; nine tenths of it are never in memory."""
    starts = [part.start for part in _ranges(path)]
    found = []
    with open(path, "rb") as stream:
        for start, stop in zip(starts, [*starts[1:], None]):
            found.append(without_outlines(stream.read(-1 if stop is None else stop - start)))
    return b"".join(found)


@dataclass(frozen=True)
class _Range:
    """A part of a file: its first byte, and the one behind it; whether it is the file's first or last part."""

    path: str
    start: int
    stop: int
    end: bool


def _ranges(path: Path) -> list[_Range]:
    """The parts of a file; between two is the comma between two entries."""
    found: list[_Range] = []
    start = 0
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        for place in range(_PART, size, _PART):
            stream.seek(place)
            comma = _BETWEEN.search(stream.read(_NEAR))
            if comma and place + comma.start(1) > start:
                found.append(_Range(str(path), start, place + comma.start(1), start == 0))
                start = place + comma.end(1)
    return [*found, _Range(str(path), start, size, True)]


def _read(ranges: Sequence[_Range]) -> list[Part]:
    """Each part's columns, or its text without outlines; None for one with something unusual, and all behind it."""
    found: list[Part] = []
    for part in ranges:
        with open(part.path, "rb") as stream:
            stream.seek(part.start)
            text = without_outlines(stream.read(part.stop - part.start))
        found.append(text if part.end or LISTS.search(text) else _columns(text))
        if found[-1] is None:
            break
    return found + [None] * (len(ranges) - len(found))


def _columns(text: bytes) -> Images | Objects | None:
    try:
        entries = json.loads(f"[{text.decode('utf-8')}]")
    except (ValueError, RecursionError):
        return None
    first = entries[0]
    return objects_of(entries) if type(first) is dict and "image_id" in first else images_of(entries)


def _joined(parts: list[Part]) -> PlainFile | None:
    marks = [place for place, part in enumerate(parts) if not isinstance(part, bytes)]
    texts = [
        part if isinstance(part, bytes) else b'{"%b": %d}' % (_MARK_TEXT, place)
        for place, part in enumerate(parts)
    ]
    document = b",".join(texts)
    lists = Counter(match.group(1) for match in LISTS.finditer(document))
    if max(lists.values(), default=0) > 1 or document.count(_MARK_TEXT) > len(marks):
        return None
    content = json.loads(document.decode("utf-8-sig"))
    if not isinstance(content, dict) or not isinstance(content.get("categories"), list):
        return None
    seen: list[int] = []
    images = _list(content.get("images"), parts, images_of, Images, seen)
    objects = _list(content.get("annotations"), parts, objects_of, Objects, seen)
    if images is None or objects is None or sorted(seen) != marks:
        return None
    found = PlainFile(images, objects, content["categories"])
    return found if _fit(found) else None


def _list(
    entries: Any,
    parts: Sequence[Part],
    columns_of: Callable[[list[Any]], Columns | None],
    kind: type[Columns],
    seen: list[int],
) -> Columns | None:
    """Columns of a list of the document, with those of the parts in it, whose places are added to `seen`."""
    if not isinstance(entries, list) or not entries:
        return None
    found: list[Any] = []
    for marked, some in groupby(entries, lambda entry: type(entry) is dict and _MARK in entry):
        if marked:
            places = [entry[_MARK] for entry in some]
            found += [parts[place] for place in places]
            seen += places
        else:
            found.append(columns_of(list(some)))
    return kind.joined(found) if all(isinstance(part, kind) for part in found) else None


def _fit(file: PlainFile) -> bool:
    """Whether images and categories have whole numbers of their own as ids, and every object some of these."""
    labels = [entry.get("id") if isinstance(entry, dict) else None for entry in file.categories]
    if set(map(type, labels)) != {int} or not all(abs(label) < 2**62 for label in labels):
        return False
    pairs = ((file.images.ids, file.objects.image), (np.array(labels, np.int64), file.objects.category))
    return all(len(np.unique(ids)) == len(ids) and bool(np.isin(theirs, ids).all()) for ids, theirs in pairs)
