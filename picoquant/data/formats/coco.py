"""Load annotations in COCO's JSON format, repairing or refusing what cannot be used.

Source of the rules: PaddleDetection, ppdet/data/source/coco.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.data.dataset import Annotations, Dataset, Record, Repairs
from picoquant.data.formats.boxes import RawBoxes, pixel_boxes, tell_areas_of_none
from picoquant.data.formats.coco_columns import FARTHEST, are_plain_images, plain_objects
from picoquant.data.formats.coco_file import read_annotations, root_category
from picoquant.data.formats.ids import AmbiguousIdError, IdTable, is_id, kind_of, mark_of
from picoquant.data.formats.repair import (
    SMALLEST_SIDE,
    Tally,
    choose,
    clip,
    find_images,
    report,
    tell_crowds,
    tell_written_twice,
)
from picoquant.data.formats.sizes import compare_sizes, file_sizes
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")


def load_coco(settings: DatasetSettings, training: bool, problems: list[DataError] | None = None) -> Dataset:
    """Load a data set in COCO format.

    Classes are numbered in the order of `categories` in the file, whatever their ids. Ids may be texts or of
    different kinds, as long as it is clear what belongs together; those of annotations are not looked at. Boxes are
    read as `box_format` says, those without area and those marked `ignore` are dropped. Images without objects are left
    out of training unless `allow_empty`, and kept for evaluation. Missing image files, under 1 % of all, are left
    out of training; evaluation refuses them, as its mAP would be that of other images.

    Raises: `DataError` naming the file and what to do; see `load_dataset` for `problems`.
    """
    path = settings.annotation_file
    content = read_annotations(path, settings.section)
    names, categories = _categories(content, settings)
    images, image_ids = _images(content, path)
    found = find_images(settings, [image["file_name"] for image in images], training, problems)
    tally = Tally()
    files = _files(found.paths, images, image_ids)
    name, annotations, trained = _objects(content, files, categories, settings, tally)
    tell_crowds(settings.section, annotations.is_crowd, name, "crowds (iscrowd)")
    records, empty = [], []
    for place, record in enumerate(_records(files, annotations, trained, tally, name)):
        if place in found.missing:
            continue
        (empty if record.is_crowd.all() else records).append(record)  # true without objects, too
    chosen, left_out = choose(settings, records, empty, training, problems)
    crowds = sum(bool(len(record.boxes)) for record in empty) if left_out == len(empty) else 0
    missing = tuple(sorted({images[place]["file_name"] for place in found.missing}))
    repairs = Repairs(tally.count["clipped"], tally.count["dropped"], left_out, crowds, missing, files.faults)
    dataset = Dataset(
        records=chosen,
        class_names=names,
        category_ids=categories.numbers,
        section=settings.section,
        annotation_file=path,
        repairs=repairs,
        annotations=None if training else annotations,
        own_image_ids=image_ids.own,
        own_category_ids=categories.own,
    )
    report(dataset, tally, refused=bool(problems))
    return dataset


def _entry(entry: Any, kind: str, keys: tuple[str, ...], path: Path) -> dict[str, Any]:
    """`entry` when it is a mapping with `keys`."""
    if not isinstance(entry, dict):
        raise DataError(f"annotation file {path} is no COCO: {kind} holds {str(entry)[:40]!r}")
    for key in keys:
        if key not in entry:
            name = entry.get("file_name", entry.get("id"))
            raise DataError(f"annotation file {path} is no COCO: {kind} entry {name} has no {key}")
    return entry


def _categories(content: dict[str, Any], settings: DatasetSettings) -> tuple[tuple[str, ...], IdTable]:
    """Names and ids, in the order of the file (as PaddleDetection's `getCatIds()` gives them)."""
    path = settings.annotation_file
    entries = [_entry(item, "categories", ("id", "name"), path) for item in content["categories"]]
    if not entries:
        raise DataError(f"annotation file {path} lists no categories; give each class an id and name")
    seen = set()
    for entry in entries:
        if not isinstance(entry["name"], (str, int, float)) or not str(entry["name"]).strip():
            raise DataError(
                f"annotation file {path}: category {entry['id']} has the name {entry['name']!r}; give each class "
                "its own"
            )
        _check_id(entry["id"], f"category {str(entry['name'])!r}", path)
        if (type(entry["id"]), entry["id"]) in seen:
            raise DataError(f"annotation file {path} gives one category id to several categories")
        seen.add((type(entry["id"]), entry["id"]))
    root = root_category(entries)
    if root is not None and not any(
        isinstance(item, dict) and item.get("category_id") == root["id"] for item in content["annotations"]
    ):
        LOG.info(
            "%s: category %s (%s) has no boxes and stands above all others: left out, as no class",
            settings.section,
            root["id"],
            root["name"],
        )
        entries.remove(root)
    return tuple(str(entry["name"]) for entry in entries), IdTable.of([entry["id"] for entry in entries])


def _images(content: dict[str, Any], path: Path) -> tuple[list[dict[str, Any]], IdTable]:
    """Entries of images in the order of their numbers, and their ids."""
    keys = ("id", "file_name", "width", "height")
    entries = [_entry(item, "images", keys, path) for item in content["images"]]
    if not entries:
        raise DataError(f"annotation file {path} lists no images")
    seen = set()
    for entry in () if are_plain_images(entries) else entries:
        name = entry["file_name"]
        if not isinstance(name, str) or "\0" in name:
            raise DataError(f"annotation file {path}: image {entry['id']} has file_name {name!r}")
        _check_id(entry["id"], f"image {name}", path)
        if (type(entry["id"]), entry["id"]) in seen:
            raise DataError(f"annotation file {path}: image {name} has an id that is not its own")
        seen.add((type(entry["id"]), entry["id"]))
        sides = (entry["width"], entry["height"])
        if not all(_is_number(side) and side > 0 for side in sides):
            raise DataError(
                f"annotation file {path}: image {name} has width and height {sides}; write both as numbers, in pixels"
            )
    ids = IdTable.of([entry["id"] for entry in entries])
    order = sorted(range(len(entries)), key=ids.numbers.__getitem__)
    entries = [entries[place] for place in order]
    return entries, replace(ids, numbers=tuple(ids.numbers[place] for place in order))


def _check_id(value: Any, whose: str, path: Path) -> None:
    if not is_id(value):
        raise DataError(
            f"annotation file {path}: {whose} has the id {value!r} ({kind_of(value)}); give it a whole number or a text"
        )


@dataclass(frozen=True)
class _Files:
    """The images: ids and paths, sizes [N, 2] (width, height) as annotated and as the files are, damaged files."""

    ids: IdTable
    paths: list[str]
    annotated: np.ndarray
    sizes: np.ndarray
    faults: dict[str, str]


def _files(paths: list[str], images: list[dict[str, Any]], ids: IdTable) -> _Files:
    annotated = np.array([(image["width"], image["height"]) for image in images], np.float64)
    return _Files(ids, paths, annotated, *file_sizes(paths, annotated))


def _objects(
    content: dict[str, Any], files: _Files, categories: IdTable, settings: DatasetSettings, tally: Tally
) -> tuple[Callable[[int], str], Annotations, np.ndarray]:
    """What the file annotates on its images, and [M] bool: which of it has area and no mark `ignore`.

    Before these what messages call an annotation, by its place.
    """
    path = settings.annotation_file
    strays, without = [], []
    plain = plain_objects(content["annotations"], files.ids, categories)
    found: list[tuple[int, int, bool, bool]] = []
    entries = [] if plain is None else content["annotations"]
    for entry in content["annotations"] if plain is None else ():
        if not (type(entry) is dict and "image_id" in entry and "category_id" in entry):
            _entry(entry, "annotations", ("image_id", "category_id"), path)
        category = _find(categories, "category_id", entry, path)
        if category is None:
            known = ", ".join(repr(categories.own.get(number, number)) for number in categories.numbers[:10])
            raise DataError(
                f"{path}: {_name(entry)} has category_id {entry['category_id']!r} "
                f"({kind_of(entry['category_id'])}), which is not among the categories "
                f"({known}{', ...' if len(categories.numbers) > 10 else ''}); correct either"
            )
        image = _find(files.ids, "image_id", entry, path)
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
        _tell_strays(strays, len(content["annotations"]), files.ids, {image for image, *_ in found}, path)
    flat = np.array([not _flag(entry, "ignore", path) for entry in without], bool)
    tally.add("dropped", flat, lambda place: _name(without[place]))
    columns = np.array(found, np.int64).reshape(-1, 4).T if plain is None else plain
    image, category, crowd, counted = columns
    label = {number: place for place, number in enumerate(categories.numbers)}
    classes = np.array([label[number] for number in category.tolist()], np.int32)
    numbers, stated = _numbers(entries, path)

    owner = np.searchsorted(files.ids.numbers, image)

    def name(place: int) -> str:
        number = entries[place].get("id")
        called = "an annotation" if number is None else f"annotation {number}"
        return f"{called} of image {os.path.basename(files.paths[owner[place]])}"

    bounds = np.maximum(files.annotated, files.sizes)
    raw = RawBoxes(numbers, files.sizes[owner], bounds[owner], stated, "xywh", name)
    boxes, area = pixel_boxes(raw, settings)
    tell_written_twice(settings.section, image, classes, boxes, name)
    compare_sizes(files.paths, files.annotated, files.sizes, owner, boxes, settings, name)
    annotations = Annotations(image, classes, boxes, area, crowd.astype(bool), ~counted.astype(bool))
    sides = (boxes[:, 2:] > SMALLEST_SIDE).all(axis=1)
    tell_areas_of_none(sides & (area <= 0), raw, path)
    solid = sides & (area > 0)
    tally.add("dropped", counted.astype(bool) & ~solid, name)
    return name, annotations, counted.astype(bool) & solid


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
    boxes = [entry["bbox"] for entry in entries]
    areas = [entry.get("area") for entry in entries]
    quick = _as_numbers(boxes, (4,)), _as_numbers([0 if area is None else area for area in areas], ())
    if quick[0] is not None and quick[1] is not None:
        absent = np.array([area is None for area in areas], bool)
        return quick[0], np.where(absent, np.nan, quick[1])
    for entry in entries:
        box, area = entry["bbox"], entry.get("area")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise DataError(f"{path}: {_name(entry)} has bbox {box}; it must be [x, y, width, height]")
        if area is not None and not _is_number(area):
            raise DataError(f"{path}: {_name(entry)} has area {area}; it must be a number")
    return np.array(boxes, np.float64).reshape(-1, 4), np.array(areas, np.float64)  # None becomes nan


def _as_numbers(values: list[Any], shape: tuple[int, ...]) -> np.ndarray | None:
    """The values as float64 [M, *shape]; None where one of them may be none that `_is_number` takes."""
    try:
        made = np.array(values)
    except ValueError:  # lists of different lengths
        return None
    if made.dtype.kind not in "iuf" or made.shape[1:] != shape or not (np.abs(made) < FARTHEST).all():
        return None
    return made.astype(np.float64)


def _is_number(value: Any) -> bool:
    """Finite, and no farther out than float32 reaches."""
    return isinstance(value, (int, float)) and -FARTHEST < value < FARTHEST


def _name(entry: dict[str, Any]) -> str:
    return f"annotation {entry.get('id')} of image {entry['image_id']}"


def _records(
    files: _Files, annotations: Annotations, trained: np.ndarray, tally: Tally, name: Callable[[int], str]
) -> Iterator[Record]:
    """The record of each image; how many boxes are clipped and dropped goes to `tally`.

    Coordinates are rounded to 0.001 pixel, as PaddleDetection does. Boxes of all images are clipped at once and
    cut apart after: large data sets load in a third of the time.
    """
    numbers = files.ids.numbers
    order = np.flatnonzero(trained)
    order = order[np.argsort(annotations.image_id[order], kind="stable")]
    image = np.searchsorted(numbers, annotations.image_id[order])
    boxes = annotations.boxes[order]
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = np.round(corners, 3).astype(np.float32)
    limits = np.tile(files.sizes.astype(np.float32), 2)[image]
    corners, solid = clip(corners, limits, tally, lambda place: name(int(order[place])))
    image, corners, chosen = image[solid], corners[solid], order[solid]
    labels, crowd = annotations.classes[chosen], annotations.is_crowd[chosen]
    starts = np.searchsorted(image, np.arange(len(numbers) + 1)).tolist()
    for place, (width, height) in enumerate(files.sizes.tolist()):
        mine = slice(starts[place], starts[place + 1])
        yield Record(
            image_id=numbers[place],
            path=files.paths[place],
            width=int(width),
            height=int(height),
            boxes=corners[mine],
            classes=labels[mine],
            is_crowd=crowd[mine],
        )
