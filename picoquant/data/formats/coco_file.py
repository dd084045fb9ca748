"""Read COCO's JSON file: all of it but outlines, or categories and names of images alone (train2017's has 448 MB)."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from picoquant.data.formats.large.parts import LISTS, text_without_outlines
from picoquant.data.formats.repair import no_annotations
from picoquant.errors import DataError, reason_of

_KEY = b'"categories"'
_CATEGORIES = re.compile(rb'"categories"\s*:\s*(?=\[)')
_READ = 1 << 20  # bytes at a time
_PART = 1 << 16  # bytes in which the categories are looked for first


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Outlines are nine tenths of COCO's file, and nobody here looks at them."""
    entry.pop("segmentation", None)
    return entry


def read_annotations(path: Path, section: str) -> dict[str, Any]:
    """The mapping that a COCO annotation file holds, without the objects' outlines.

    Raises: `DataError` when the file is missing, empty, no JSON, or JSON that is no COCO.
    """
    keys = f"{section}.dataset_dir and {section}.anno_path"
    if not path.is_file():
        raise no_annotations(path, section)
    try:
        content = _parse(path)
    except (ValueError, OSError, RecursionError) as error:
        if path.stat().st_size == 0:
            raise DataError(
                f"annotation file {path} is empty; {keys} name it, put COCO annotations there"
            ) from error
        raise DataError(
            f"annotation file {path} cannot be read as JSON{reason_of(error)}; {keys} name it"
        ) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"annotation file {path} is no COCO: it has no list {key!r}; "
                f"{section}.anno_path takes COCO's instances JSON"
            )
    return content


def _parse(path: Path) -> Any:
    """The content of a JSON file. Lists of outlines are cut out of the text first, which halves the time.

    Where the rest is no JSON (an outline holds something else than numbers, or the file is damaged), all of it is
    parsed, so that an error names a place in the file.
    """
    short = text_without_outlines(path)
    keys = Counter(match.group(1) for match in LISTS.finditer(short))
    if max(keys.values(), default=0) > 1:
        _require_one_of_each(short, path)
    try:
        text = short.decode("utf-8-sig")
        del short  # as large
        content = json.loads(text)
    except (ValueError, RecursionError):
        return json.loads(path.read_bytes().decode("utf-8-sig"), object_hook=_without_outline)
    entries = content.get("annotations") if isinstance(content, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if type(entry) is dict:
            entry.pop("segmentation", None)
    return content


def _require_one_of_each(data: bytes, path: Path) -> None:
    """Raises: `DataError` for a list that is there twice, of which parsers of JSON keep the last."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        if set(twice) & {"images", "annotations", "categories"}:
            raise DataError(
                f"annotation file {path} has the list {twice[0]!r} twice, of which one would be lost; join the two"
            )
        return dict(pairs)

    with suppress(ValueError, RecursionError):
        json.loads(data.decode("utf-8-sig"), object_pairs_hook=once)


class KeyPlaces:
    """Where the key `categories` may stand in a file that is read from its first byte, a part after the other."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self._read = 0
        self._end = b""

    def see(self, part: bytearray, count: int) -> None:
        """The next `count` bytes, which `part` begins with."""
        across = self._end + part[: min(len(_KEY) - 1, count)]
        for text, stop, first in (
            (across, len(across), self._read - len(self._end)),
            (part, count, self._read),
        ):
            place = text.find(_KEY, 0, stop)
            while place >= 0:
                self.places.append(first + place)
                place = text.find(_KEY, place + 1, stop)
        self._end = (self._end + part[max(0, count - len(_KEY) + 1) : count])[1 - len(_KEY) :]
        self._read += count


def peek_categories(
    path: Path, with_root: bool = False, places: Sequence[int] | None = None
) -> list[tuple[Any, str]] | None:
    """Ids and names of a COCO file's categories, in its order, without parsing the rest (448 MB of train2017).

    Args:
        path: the file.
        with_root: with a category that stands above all others and has no boxes, which is no class.
        places: what `KeyPlaces` found in the file, where it was read before; None: it is read here.

    Returns: None when there is not exactly one list of categories with ids and names.
    """
    if places is None:
        seen = KeyPlaces()
        with open(path, "rb", buffering=0) as stream:
            part = bytearray(_READ)
            while count := stream.readinto(part):
                seen.see(part, count)
        places = seen.places
    listed = _categories_at(path, places)
    if not listed or not all(isinstance(e, dict) and {"id", "name"} <= e.keys() for e in listed):
        return None
    root = None if with_root else root_category(listed)
    if root is not None:
        with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if not re.search(rb'"category_id"\s*:\s*0(?:\.0*)?\s*[,}\r\n]', data):
                listed.remove(root)
    return [(entry["id"], str(entry["name"])) for entry in listed]


def _categories_at(path: Path, places: Sequence[int]) -> list[Any] | None:
    """The list of categories at one of some places of a file; None where there is none, or there are several."""
    with open(path, "rb") as stream:
        starts = []
        for place in places:
            stream.seek(place)
            if match := _CATEGORIES.match(stream.read(_PART)):
                starts.append(place + match.end())
        if len(starts) != 1:
            return None
        size = _PART
        while True:
            stream.seek(starts[0])
            data = stream.read(size)
            try:
                return json.JSONDecoder().raw_decode(data.decode("utf-8", errors="ignore"))[0]
            except ValueError:
                if len(data) < size:
                    return None
                size *= 8


def root_category(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Roboflow's category 0, which is the supercategory of all others; None where there is none."""
    root, others = entries[0], entries[1:]
    if type(root["id"]) is not int or root["id"] != 0 or not others:
        return None
    above = root.get("supercategory") in (None, "", "none", root["name"])
    return root if above and all(entry.get("supercategory") == root["name"] for entry in others) else None


_IMAGE = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_NAMES = ("instances_", "instance_", "_annotations.coco")
_KEYS = (rb'"images"\s*:\s*\[', rb'"annotations"\s*:\s*\[', rb'"categories"\s*:\s*\[')


def is_coco(path: Path) -> bool:
    """Whether a JSON file has lists of images, annotations and categories, or the name of one that has.

    So a damaged one is refused rather than passed by.
    """
    if path.name.startswith(_NAMES):
        return True
    with open(path, "rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return all(re.search(key, data) for key in _KEYS)


def coco_file_names(path: Path, count: int) -> list[str]:
    """The first names of images in a COCO file."""
    names: list[str] = []
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _IMAGE.finditer(data):
            try:
                names.append(json.loads(match.group(1)))
            except ValueError:
                continue
            if len(names) == count:
                break
    return names
