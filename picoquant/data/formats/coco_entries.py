"""Entries of COCO's JSON looked at one by one: what may be meant is taken so, and what is wrong is named.

Most files have nothing unusual in them and are read as columns, see `large.parts`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.data.formats.ids import AmbiguousIdError, IdTable, is_id, kind_of, mark_of
from picoquant.data.formats.large.columns import FARTHEST, Objects, boxes_and_areas, images_of
from picoquant.data.formats.repair import Tally
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")


def entry_of(entry: Any, kind: str, keys: tuple[str, ...], path: Path) -> dict[str, Any]:
    """`entry` when it is a mapping with `keys`."""
    if not isinstance(entry, dict):
        raise DataError(f"annotation file {path} is no COCO: {kind} holds {str(entry)[:40]!r}")
    for key in keys:
        if key not in entry:
            name = entry.get("file_name", entry.get("id"))
            raise DataError(f"annotation file {path} is no COCO: {kind} entry {name} has no {key}")
    return entry


def check_id(value: Any, whose: str, path: Path) -> None:
    if not is_id(value):
        raise DataError(
            f"annotation file {path}: {whose} has the id {value!r} ({kind_of(value)}); give it a whole number or a text"
        )


def check_images(entries: list[dict[str, Any]], path: Path) -> None:
    """Raises: `DataError` naming the first of these entries that is none of an image."""
    plain = images_of(entries)
    if plain is not None and len(np.unique(plain.ids)) == len(entries):
        return
    seen = set()
    for entry in entries:
        name = entry["file_name"]
        if not isinstance(name, str) or "\0" in name:
            raise DataError(f"annotation file {path}: image {entry['id']} has file_name {name!r}")
        check_id(entry["id"], f"image {name}", path)
        if (type(entry["id"]), entry["id"]) in seen:
            raise DataError(f"annotation file {path}: image {name} has an id that is not its own")
        seen.add((type(entry["id"]), entry["id"]))
        sides = (entry["width"], entry["height"])
        if not all(_is_number(side) and side > 0 for side in sides):
            raise DataError(
                f"annotation file {path}: image {name} has width and height {sides}; write both as numbers, in pixels"
            )


def objects_one_by_one(
    listed: list[Any], images: IdTable, categories: IdTable, path: Path, tally: Tally
) -> Objects:
    """The objects that a list annotates on these images, with the numbers of image and category in place of ids.

    Those without a box are left out and counted in `tally`.

    Raises: `DataError` naming the first that is wrong.
    """
    strays: list[dict[str, Any]] = []
    without: list[dict[str, Any]] = []
    found: list[tuple[int, int, bool, bool]] = []
    entries: list[dict[str, Any]] = []
    for entry in listed:
        if not (type(entry) is dict and "image_id" in entry and "category_id" in entry):
            entry_of(entry, "annotations", ("image_id", "category_id"), path)
        category = _find(categories, "category_id", entry, path)
        if category is None:
            known = ", ".join(repr(categories.own.get(number, number)) for number in categories.numbers[:10])
            raise DataError(
                f"{path}: {_name(entry)} has category_id {entry['category_id']!r} "
                f"({kind_of(entry['category_id'])}), which is not among the categories "
                f"({known}{', ...' if len(categories.numbers) > 10 else ''}); correct either"
            )
        image = _find(images, "image_id", entry, path)
        if image is None:
            strays.append(entry)
        elif not entry.get("bbox"):
            without.append(entry)
        else:
            crowd, ignored = entry.get("iscrowd"), entry.get("ignore")
            if crowd or ignored:  # hardly ever
                crowd, ignored = (_flag(entry, key, path) for key in ("iscrowd", "ignore"))
            found.append((image, category, bool(crowd), not ignored))
            entries.append(entry)
    if strays:
        _tell_strays(strays, len(listed), images, {image for image, *_ in found}, path)
    flat = np.array([not _flag(entry, "ignore", path) for entry in without], bool)
    tally.add("dropped", flat, lambda place: _name(without[place]))
    image, category, crowd, counted = np.array(found, np.int64).reshape(-1, 4).T
    ids = [entry.get("id") for entry in entries]
    return Objects(ids, image, category, crowd.astype(bool), ~counted.astype(bool), *_numbers(entries, path))


def _find(table: IdTable, key: str, entry: dict[str, Any], path: Path) -> int | None:
    """What an annotation's id of image or category means, None for nothing.

    Raises: `DataError` for one that several entries are meant by.
    """
    if type(entry[key]) is int and entry[key] in table.whole:  # nearly always, and large files have a million
        return table.whole[entry[key]]
    try:
        return table.find(entry[key])
    except AmbiguousIdError:
        raise DataError(
            f"{path}: {_name(entry)} has {key} {entry[key]!r} ({kind_of(entry[key])}), which several entries may "
            "mean; write the ids of one kind, whole numbers or texts, everywhere"
        ) from None


def _flag(entry: dict[str, Any], key: str, path: Path) -> bool:
    """Raises: `DataError` for what is no mark."""
    found = mark_of(entry.get(key))
    if found is None:
        raise DataError(f"{path}: {_name(entry)} has {key} {entry[key]!r}; it must be 0 or 1")
    return found


def _tell_strays(
    strays: list[dict[str, Any]], total: int, images: IdTable, annotated: set[int], path: Path
) -> None:
    """Say which annotations belong to no image.

    Args:
        strays: those.
        total: of all annotations.
        images: ids of the images listed.
        annotated: numbers of the images that have an annotation.

    Raises: `DataError` when none at all does, and where image_id seems to count from another number than the images.
    """
    first = strays[0]
    said = (
        f"{path}: {len(strays)} annotations are of images it does not list, the first is {_name(first)} "
        f"({kind_of(first['image_id'])})"
    )
    theirs = {repr(entry["image_id"]) for entry in strays}
    ends = (images.numbers[0], images.numbers[-1])
    in_a_row = ends[1] - ends[0] == len(images.numbers) - 1
    for step, left in ((1, ends[0]), (-1, ends[1])):
        if in_a_row and theirs == {repr(ends[0] + ends[1] - left + step)} and left not in annotated:
            raise DataError(
                f"{said}, and image {left} has none: image_id seems to count from {ends[0] + step}, the images from "
                f"{ends[0]}; correct either, or take these annotations out"
            )
    if len(strays) < total:
        LOG.warning("%s", said)
        return
    listed = images.own.get(images.numbers[0], images.numbers[0])
    raise DataError(
        f"{said}; its images have ids such as {listed!r} ({kind_of(listed)}), write image_id as there"
    )


def _numbers(entries: list[dict[str, Any]], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """[M, 4] float64, the numbers of `bbox`, and [M] `area`, nan where none is given."""
    boxes, areas = [entry["bbox"] for entry in entries], [entry.get("area") for entry in entries]
    plain = boxes_and_areas(boxes, areas)
    if plain is not None:
        return plain
    for entry in entries:
        box, area = entry["bbox"], entry.get("area")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise DataError(f"{path}: {_name(entry)} has bbox {box}; it must be [x, y, width, height]")
        if area is not None and not _is_number(area):
            raise DataError(f"{path}: {_name(entry)} has area {area}; it must be a number")
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(areas, np.float64)  # None becomes nan


def _is_number(value: Any) -> bool:
    """Finite, and no farther out than float32 reaches."""
    return isinstance(value, (int, float)) and -FARTHEST < value < FARTHEST


def _name(entry: dict[str, Any]) -> str:
    return f"annotation {entry.get('id')} of image {entry['image_id']}"
