"""Load annotations in COCO's JSON format, repairing or refusing what cannot be used.

Source of the rules: PaddleDetection, ppdet/data/source/coco.py.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.data.dataset import Dataset, Record, Repairs
from picoquant.data.repair import SMALLEST_SIDE, check_files, choose, clip, no_annotations, report
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")


def load_coco(settings: DatasetSettings, training: bool) -> Dataset:
    """Load a data set in COCO format.

    Classes are numbered in the order of their category ids, gaps or not. Boxes are clipped to the
    image, those without area and those marked `ignore` are dropped. Images without objects are left
    out of training unless `allow_empty`, and kept for evaluation. Missing image files, under 1 % of
    all, are left out of training; evaluation refuses them, as its mAP would be that of other images.

    Raises: `DataError` naming the file and what to do.
    """
    path = settings.annotation_file
    content = read_annotations(path, settings.section)
    categories = _categories(content, path)
    images = _images(content, path)
    objects, counts = _objects(content, {image["id"] for image in images}, categories, path)
    missing = check_files(settings, [image["file_name"] for image in images], training)
    records, empty = [], []
    for image in images:
        if image["file_name"] in missing:
            continue
        record = _record(settings, image, objects.get(image["id"], []), counts)
        (empty if record.is_crowd.all() else records).append(record)  # true without objects, too
    chosen, left_out = choose(settings, records, empty, training)
    repairs = Repairs(counts["clipped"], counts["dropped"], left_out, tuple(sorted(missing)))
    dataset = Dataset(
        records=chosen,
        class_names=tuple(name for _, name in categories),
        category_ids=tuple(number for number, _ in categories),
        section=settings.section,
        annotation_file=path,
        repairs=repairs,
    )
    report(dataset)
    return dataset


def read_annotations(path: Path, section: str) -> dict[str, Any]:
    """The mapping that a COCO annotation file holds.

    Raises: `DataError` when the file is missing, empty, no JSON, or JSON that is no COCO.
    """
    keys = f"{section}.dataset_dir and {section}.anno_path"
    if not path.is_file():
        raise no_annotations(path, section)
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream)
    except (ValueError, OSError) as error:
        if path.stat().st_size == 0:
            raise DataError(
                f"annotation file {path} is empty; {keys} name it, put COCO annotations there"
            ) from error
        raise DataError(f"annotation file {path} cannot be read as JSON ({error}); {keys} name it") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(
                f"annotation file {path} is no COCO: it has no list {key!r}; "
                f"{section}.anno_path takes COCO's instances JSON"
            )
    return content


def _entry(entry: Any, kind: str, keys: tuple[str, ...], path: Path) -> dict[str, Any]:
    """`entry` when it is a mapping with `keys`."""
    if not isinstance(entry, dict):
        raise DataError(f"annotation file {path} is no COCO: {kind} holds {str(entry)[:40]!r}")
    for key in keys:
        if key not in entry:
            name = entry.get("file_name", entry.get("id"))
            raise DataError(f"annotation file {path} is no COCO: {kind} entry {name} has no {key}")
    return entry


def _categories(content: dict[str, Any], path: Path) -> list[tuple[int, str]]:
    """(id, name) in the order of the ids."""
    entries = [_entry(item, "categories", ("id", "name"), path) for item in content["categories"]]
    if not entries:
        raise DataError(f"annotation file {path} lists no categories; give each class an id and name")
    named = {entry["id"]: str(entry["name"]) for entry in entries}
    if len(named) < len(entries):
        raise DataError(f"annotation file {path} gives one category id to several categories")
    if not all(isinstance(number, int) for number in named):
        raise DataError(f"annotation file {path} has category ids that are no whole numbers")
    return sorted(named.items())


def _images(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Entries of images in the order of their ids."""
    keys = ("id", "file_name", "width", "height")
    entries = [_entry(item, "images", keys, path) for item in content["images"]]
    if not entries:
        raise DataError(f"annotation file {path} lists no images")
    seen = set()
    for entry in entries:
        name = entry["file_name"]
        if not isinstance(entry["id"], int) or entry["id"] in seen:
            raise DataError(f"annotation file {path}: image {name} has an id that is not its own")
        seen.add(entry["id"])
        sides = (entry["width"], entry["height"])
        if not all(isinstance(side, (int, float)) and side > 0 for side in sides):
            raise DataError(f"annotation file {path}: image {name} has width and height {sides}")
    return sorted(entries, key=lambda entry: entry["id"])


def _objects(
    content: dict[str, Any], image_ids: set[int], categories: list[tuple[int, str]], path: Path
) -> tuple[dict[int, list[tuple[list[float], int, bool]]], Counter]:
    """For each image id (x1 y1 x2 y2, class, crowd), and how many boxes were dropped.

    Coordinates are rounded to 0.001 pixel, as PaddleDetection does.
    """
    class_of = {number: label for label, (number, _) in enumerate(categories)}
    objects: dict[int, list[tuple[list[float], int, bool]]] = defaultdict(list)
    counts: Counter = Counter()
    for item in content["annotations"]:
        entry = _entry(item, "annotations", ("image_id", "category_id"), path)
        name = f"annotation {entry.get('id')} of image {entry['image_id']}"
        if entry["category_id"] not in class_of:
            known = ", ".join(str(number) for number, _ in categories[:10])
            raise DataError(
                f"{path}: {name} has category_id {entry['category_id']}, which is not among the "
                f"categories ({known}{', ...' if len(categories) > 10 else ''}); correct either"
            )
        if entry["image_id"] not in image_ids:
            counts["strays"] += 1
            continue
        box = entry.get("bbox")
        if entry.get("ignore") or not box:
            counts["dropped"] += not entry.get("ignore")
            continue
        if not _is_box(box):
            raise DataError(f"{path}: {name} has bbox {box}; it must be [x, y, width, height]")
        x, y, width, height = box
        area = entry.get("area", width * height)
        if min(width, height) <= SMALLEST_SIDE or not area > 0:
            counts["dropped"] += 1
            continue
        corners = [round(float(value), 3) for value in (x, y, x + width, y + height)]
        crowd = bool(entry.get("iscrowd", 0))
        objects[entry["image_id"]].append((corners, class_of[entry["category_id"]], crowd))
    if counts["strays"]:
        LOG.warning("%s: %d annotations are of images it does not list", path, counts["strays"])
    return objects, counts


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in box)
    )


def _record(
    settings: DatasetSettings,
    image: dict[str, Any],
    objects: list[tuple[list[float], int, bool]],
    counts: Counter,
) -> Record:
    """One image's record; its clipped and dropped boxes are added to `counts`."""
    given = np.array([corners for corners, _, _ in objects], np.float32).reshape(-1, 4)
    boxes, solid = clip(given, image["width"], image["height"], counts)
    return Record(
        image_id=image["id"],
        path=os.path.join(settings.image_folder, image["file_name"]),
        width=int(image["width"]),
        height=int(image["height"]),
        boxes=boxes[solid],
        classes=np.array([label for _, label, _ in objects], np.int32)[solid],
        is_crowd=np.array([crowd for _, _, crowd in objects], bool)[solid],
    )
