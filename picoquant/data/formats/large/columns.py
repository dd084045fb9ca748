"""Entries of COCO's JSON as columns: most of a large file's million are as they should be.

What these functions do not take for such is looked at entry by entry elsewhere, which finds the one that is wrong.
N images, M objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

FARTHEST = 1e9  # pixels


@dataclass(frozen=True)
class Images:
    """Entries of `images`.

    Attributes:
        ids: [N] int64; names: N, of the files; sizes: [N, 2] float64, width and height as annotated.
    """

    ids: np.ndarray
    names: list[str]
    sizes: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Images]) -> Images:
        """The images of all parts, one behind the other."""
        return cls(
            np.concatenate([part.ids for part in parts]),
            list(chain.from_iterable(part.names for part in parts)),
            np.concatenate([part.sizes for part in parts]),
        )


@dataclass(frozen=True)
class Objects:
    """Entries of `annotations`.

    Attributes:
        ids: M, as the file has them, None for none; an array of int64 where all are whole numbers.
        image, category: [M] int64, their ids; crowd, ignored: [M] bool.
        numbers: [M, 4] float64 of `bbox`; area: [M] float64, nan where none is given.
    """

    ids: Sequence[Any]
    image: np.ndarray
    category: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray
    numbers: np.ndarray
    area: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Objects]) -> Objects:
        """The objects of all parts, one behind the other."""
        whole = all(isinstance(part.ids, np.ndarray) for part in parts)
        ids = [part.ids for part in parts]
        rest = ("image", "category", "crowd", "ignored", "numbers", "area")
        return cls(
            np.concatenate(ids) if whole else list(chain.from_iterable(ids)),
            *(np.concatenate([getattr(part, name) for part in parts]) for name in rest),
        )


def images_of(entries: list[Any]) -> Images | None:
    """Columns of entries with whole numbers, texts and sizes, None where one has anything else.

    Whether an id is one image's alone is not looked at.
    """
    if set(map(type, entries)) != {dict}:
        return None
    try:
        ids, names, *sides = (
            [entry[key] for entry in entries] for key in ("id", "file_name", "width", "height")
        )
        if set(map(type, ids)) != {int} or set(map(type, names)) != {str} or "\0" in "".join(names):
            return None
        if not set(map(type, sides[0])) | set(map(type, sides[1])) <= {int, float}:
            return None
        sizes = as_numbers(list(zip(*sides)), (2,))
        return (
            None if sizes is None or not (sizes > 0).all() else Images(np.array(ids, np.int64), names, sizes)
        )
    except (KeyError, OverflowError):  # an id beyond int64
        return None


def objects_of(entries: list[Any]) -> Objects | None:
    """Columns of entries with whole numbers as ids of image and category, usual marks and a box; None where one has
    anything else."""
    if set(map(type, entries)) != {dict}:
        return None
    found = []
    try:
        for key in ("image_id", "category_id"):
            ids = [entry.get(key) for entry in entries]
            if set(map(type, ids)) != {int}:
                return None
            found.append(np.array(ids, np.int64))
        own = [entry.get("id") for entry in entries]
        names = np.array(own, np.int64) if set(map(type, own)) == {int} else own
    except OverflowError:
        return None
    for key in ("iscrowd", "ignore"):
        marks = [entry.get(key) for entry in entries]
        if not set(map(type, marks)) <= {int, type(None)} or not set(marks) <= {0, 1, None}:
            return None
        found.append(np.array(marks, object).astype(bool))
    numbers = boxes_and_areas(
        [entry.get("bbox") for entry in entries], [entry.get("area") for entry in entries]
    )
    return None if numbers is None else Objects(names, *found, *numbers)


def boxes_and_areas(boxes: list[Any], areas: list[Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """[M, 4] float64 of boxes, and their areas [M] float64, nan for None; None where one is none `as_numbers` takes."""
    numbers = as_numbers(boxes, (4,))
    stated = as_numbers([0 if area is None else area for area in areas], ())
    if numbers is None or stated is None:
        return None
    return numbers, np.where(np.array([area is None for area in areas], bool), np.nan, stated)


def as_numbers(values: list[Any], shape: tuple[int, ...]) -> np.ndarray | None:
    """The values as float64 [M, *shape]; None where one of them may be no number, or farther than `FARTHEST`."""
    try:
        made = np.array(values)
    except ValueError:  # lists of different lengths
        return None
    if made.dtype.kind not in "iuf" or made.shape[1:] != shape or not (np.abs(made) < FARTHEST).all():
        return None
    return made.astype(np.float64)
