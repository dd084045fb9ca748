"""Entries of COCO's JSON looked at all at once: most of a large file's million are as they should be.

What these functions do not take for such is looked at entry by entry, which finds the one that is wrong.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from picoquant.data.formats.ids import IdTable

FARTHEST = 1e9  # pixels


def are_plain_images(entries: list[dict[str, Any]]) -> bool:
    """Whether nothing is wrong with any entry: whole numbers of their own, texts, sizes. A look at all at once."""
    ids, names, *sides = ([entry[key] for entry in entries] for key in ("id", "file_name", "width", "height"))
    if set(map(type, ids)) != {int} or set(map(type, names)) != {str} or len(set(ids)) < len(ids):
        return False
    if not set(map(type, sides[0])) | set(map(type, sides[1])) <= {int, float} or "\0" in "".join(names):
        return False
    return all(min(side) > 0 and max(side) < FARTHEST and not any(map(math.isnan, side)) for side in sides)


def plain_objects(
    entries: list[Any], images: IdTable, categories: IdTable
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Numbers of image and category, crowds and not ignored, each [M], where no entry is unusual; None where one is.

    A look at all at once, as large files have a million; what is unusual is looked at entry by entry.
    """
    if set(map(type, entries)) != {dict}:
        return None
    numbers, marks = [], []
    for key, table in (("image_id", images), ("category_id", categories)):
        ids = [entry.get(key) for entry in entries]
        found = list(map(table.whole.get, ids)) if set(map(type, ids)) == {int} else [None]
        if None in found:
            return None
        numbers.append(np.array(found, np.int64))
    for key in ("iscrowd", "ignore"):
        values = [entry.get(key) for entry in entries]
        if not set(map(type, values)) <= {int, type(None)} or not set(values) <= {0, 1, None}:
            return None
        marks.append(np.array(values, object).astype(bool))
    return (*numbers, marks[0], ~marks[1]) if all(entry.get("bbox") for entry in entries) else None
