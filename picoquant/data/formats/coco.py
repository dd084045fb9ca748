"""Load annotations in COCO's JSON format, repairing or refusing what cannot be used.

Source of the rules: PaddleDetection, ppdet/data/source/coco.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from picoquant.data.dataset import Annotations, Dataset, PackedRecords, Repairs
from picoquant.data.formats.boxes import RawBoxes, pixel_boxes, tell_areas_of_none
from picoquant.data.formats.coco_entries import check_id, check_images, entry_of, objects_one_by_one
from picoquant.data.formats.coco_file import read_annotations, root_category
from picoquant.data.formats.ids import IdTable
from picoquant.data.formats.large.columns import Objects
from picoquant.data.formats.large.parts import PlainFile, read_in_parts
from picoquant.data.formats.large.rows import every
from picoquant.data.formats.repair import (
    SMALLEST_SIDE,
    Tally,
    choose,
    clip,
    find_images,
    packed,
    report,
    tell_crowds,
    tell_written_twice,
)
from picoquant.data.formats.sizes import compare_sizes, file_sizes
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from picoquant.utils.helpers.helpers import Helpers

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
    tally = Tally()
    with Helpers() as helpers:
        file = read_in_parts(path, helpers) or read_annotations(path, settings.section)
        names, categories = _categories(file, settings)
        images = _images(file, path)
        found = find_images(settings, images.names, training, problems)
        own_sizes, faults = file_sizes(found.paths, images.sizes, helpers)
    files = _Files(images.numbers, found.paths, images.sizes, own_sizes, faults)
    if isinstance(file, PlainFile):
        objects = file.objects
    else:
        objects = objects_one_by_one(file["annotations"], images.ids, categories, path, tally)
    name, annotations, trained = _objects(objects, files, categories, settings, tally)
    tell_crowds(settings.section, annotations.is_crowd, name, "crowds (iscrowd)")
    records = _records(files, annotations, trained, tally, name)
    chosen, left_out, crowds = choose(settings, records, found.missing, training, problems)
    missing = tuple(sorted({images.names[place] for place in found.missing}))
    repairs = Repairs(tally.count["clipped"], tally.count["dropped"], left_out, crowds, missing, faults)
    dataset = Dataset(
        records=chosen,
        class_names=names,
        category_ids=categories.numbers,
        section=settings.section,
        annotation_file=path,
        repairs=repairs,
        annotations=None if training else annotations,
        own_image_ids=images.ids.own,
        own_category_ids=categories.own,
    )
    report(dataset, tally, refused=bool(problems))
    return dataset


File = Union[PlainFile, dict[str, Any]]  # where something may be unusual in it, with the lists as they are


def _categories(file: File, settings: DatasetSettings) -> tuple[tuple[str, ...], IdTable]:
    """Names and ids, in the order of the file (as PaddleDetection's `getCatIds()` gives them)."""
    path = settings.annotation_file
    listed = file.categories if isinstance(file, PlainFile) else file["categories"]
    entries = [entry_of(item, "categories", ("id", "name"), path) for item in listed]
    if not entries:
        raise DataError(f"annotation file {path} lists no categories; give each class an id and name")
    seen = set()
    for entry in entries:
        if not isinstance(entry["name"], (str, int, float)) or not str(entry["name"]).strip():
            raise DataError(
                f"annotation file {path}: category {entry['id']} has the name {entry['name']!r}; give each class "
                "its own"
            )
        check_id(entry["id"], f"category {str(entry['name'])!r}", path)
        if (type(entry["id"]), entry["id"]) in seen:
            raise DataError(f"annotation file {path} gives one category id to several categories")
        seen.add((type(entry["id"]), entry["id"]))
    root = root_category(entries)
    if root is not None and not _is_used(file, root["id"]):
        LOG.info(
            "%s: category %s (%s) has no boxes and stands above all others: left out, as no class",
            settings.section,
            root["id"],
            root["name"],
        )
        entries.remove(root)
    return tuple(str(entry["name"]) for entry in entries), IdTable.of([entry["id"] for entry in entries])


def _is_used(file: File, category: int) -> bool:
    """Whether an annotation is of a category."""
    if isinstance(file, PlainFile):
        return bool((file.objects.category == category).any())
    entries = file["annotations"]
    return any(isinstance(item, dict) and item.get("category_id") == category for item in entries)


@dataclass(frozen=True)
class _Images:
    """The images in the order of their numbers [N]: ids, names of files, sizes [N, 2] as annotated."""

    ids: IdTable
    numbers: np.ndarray
    names: list[str]
    sizes: np.ndarray


def _images(file: File, path: Path) -> _Images:
    if isinstance(file, PlainFile):
        ids, names, sizes = file.images.ids.tolist(), file.images.names, file.images.sizes
    else:
        entries = [
            entry_of(item, "images", ("id", "file_name", "width", "height"), path) for item in file["images"]
        ]
        if not entries:
            raise DataError(f"annotation file {path} lists no images")
        check_images(entries, path)
        ids, names = [entry["id"] for entry in entries], [entry["file_name"] for entry in entries]
        sizes = np.array([(entry["width"], entry["height"]) for entry in entries], np.float64)
    order = np.argsort(IdTable.of(ids).numbers, kind="stable")
    table = IdTable.of([ids[place] for place in order.tolist()])
    return _Images(table, np.array(table.numbers), [names[place] for place in order.tolist()], sizes[order])


@dataclass(frozen=True)
class _Files:
    """The images: numbers [N], paths, sizes [N, 2] (width, height) as annotated and as the files are, damaged files."""

    numbers: np.ndarray
    paths: list[str]
    annotated: np.ndarray
    sizes: np.ndarray
    faults: dict[str, str]


def _objects(
    objects: Objects, files: _Files, categories: IdTable, settings: DatasetSettings, tally: Tally
) -> tuple[Callable[[int], str], Annotations, np.ndarray]:
    """What the file annotates on its images, and [M] bool: which of it has area and no mark `ignore`.

    Before these what messages call an annotation, by its place.
    """
    numbers = np.array(categories.numbers, np.int64)
    order = np.argsort(numbers)
    classes = order[np.searchsorted(numbers[order], objects.category)].astype(np.int32)
    owner = np.searchsorted(files.numbers, objects.image)

    def name(place: int) -> str:
        number = objects.ids[place]
        called = "an annotation" if number is None else f"annotation {number}"
        return f"{called} of image {os.path.basename(files.paths[owner[place]])}"

    bounds = np.maximum(files.annotated, files.sizes)
    raw = RawBoxes(objects.numbers, files.sizes[owner], bounds[owner], objects.area, "xywh", name)
    boxes, area = pixel_boxes(raw, settings)
    tell_written_twice(settings.section, objects.image, classes, boxes, name)
    compare_sizes(files.paths, files.annotated, files.sizes, owner, boxes, settings, name)
    annotations = Annotations(objects.image, classes, boxes, area, objects.crowd, objects.ignored)
    sides = every(boxes[:, 2:] > SMALLEST_SIDE)
    tell_areas_of_none(sides & (area <= 0), raw, settings.annotation_file)
    solid = sides & (area > 0)
    tally.add("dropped", ~objects.ignored & ~solid, name)
    return name, annotations, ~objects.ignored & solid


def _records(
    files: _Files, annotations: Annotations, trained: np.ndarray, tally: Tally, name: Callable[[int], str]
) -> PackedRecords:
    """The record of each image; how many boxes are clipped and dropped goes to `tally`.

    Coordinates are rounded to 0.001 pixel, as PaddleDetection does.
    """
    order = np.flatnonzero(trained)
    order = order[np.argsort(annotations.image_id[order], kind="stable")]
    image = np.searchsorted(files.numbers, annotations.image_id[order])
    boxes = annotations.boxes[order]
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = np.round(corners, 3).astype(np.float32)
    limits = np.tile(files.sizes.astype(np.float32), 2)[image]
    corners, solid = clip(corners, limits, tally, lambda place: name(int(order[place])))
    chosen = order[solid]
    labels, crowd = annotations.classes[chosen], annotations.is_crowd[chosen]
    return packed(files.numbers, files.paths, files.sizes, image[solid], corners[solid], labels, crowd)
