"""What a COCO file says, without parsing all of it: categories, names of images (train2017's has 448 MB)."""

from __future__ import annotations

import json
import mmap
import os
import re
from pathlib import Path
from typing import Any

_CATEGORIES = re.compile(rb'"categories"\s*:\s*(?=\[)')
_PART = 1 << 16  # bytes in which the categories are looked for first


def peek_categories(path: Path, with_root: bool = False) -> list[tuple[Any, str]] | None:
    """Ids and names of a COCO file's categories, in its order, without parsing the rest (448 MB of train2017).

    Args:
        path: the file.
        with_root: with a category that stands above all others and has no boxes, which is no class.

    Returns: None when there is not exactly one list of categories with ids and names.
    """
    with open(path, "rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return None
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            starts = [match.end() for match in _CATEGORIES.finditer(data)]
            if len(starts) != 1:
                return None
            size = _PART
            while True:
                text = data[starts[0] : starts[0] + size].decode("utf-8", errors="ignore")
                try:
                    listed = json.JSONDecoder().raw_decode(text)[0]
                    break
                except ValueError:
                    if starts[0] + size >= len(data):
                        return None
                    size *= 8
            if not listed or not all(isinstance(e, dict) and {"id", "name"} <= e.keys() for e in listed):
                return None
            root = None if with_root else root_category(listed)
            if root is not None and not re.search(rb'"category_id"\s*:\s*0(?:\.0*)?\s*[,}\r\n]', data):
                listed.remove(root)
    return [(entry["id"], str(entry["name"])) for entry in listed]


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
