"""Load annotations in COCO's JSON format, repairing or refusing what cannot be used.

Source of the rules: PaddleDetection, ppdet/data/source/coco.py.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.data.dataset import Dataset, Record, Repairs
from picoquant.data.formats.repair import SMALLEST_SIDE, check_files, choose, clip, no_annotations, report
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

_FARTHEST = 1e9  # pixels


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
    counts: Counter = Counter()
    objects = _objects(content, images, categories, path, counts)
    missing = check_files(settings, [image["file_name"] for image in images], training)
    records, empty = [], []
    for image, record in zip(images, _records(settings.image_folder, images, objects, counts)):
        if image["file_name"] in missing:
            continue
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
        annotations=None if training else content,
    )
    report(dataset)
    return dataset


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
        with open(path, encoding="utf-8") as stream:
            content = json.load(stream, object_hook=_without_outline)
    except (ValueError, OSError, RecursionError) as error:
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
    if not all(_is_whole(entry["id"]) for entry in entries):
        raise DataError(f"annotation file {path} has category ids that are no whole numbers")
    named = {entry["id"]: str(entry["name"]) for entry in entries}
    if len(named) < len(entries):
        raise DataError(f"annotation file {path} gives one category id to several categories")
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
        if not isinstance(name, str) or "\0" in name:
            raise DataError(f"annotation file {path}: image {entry['id']} has file_name {name!r}")
        if not _is_whole(entry["id"]) or entry["id"] in seen:
            raise DataError(f"annotation file {path}: image {name} has an id that is not its own")
        seen.add(entry["id"])
        sides = (entry["width"], entry["height"])
        if not all(_is_number(side) and side > 0 for side in sides):
            raise DataError(f"annotation file {path}: image {name} has width and height {sides}")
    return sorted(entries, key=lambda entry: entry["id"])


@dataclass(frozen=True)
class _Objects:
    """All objects: [M] number of the image, [M, 4] float32 x1 y1 x2 y2, [M] class, [M] crowd."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray


def _objects(
    content: dict[str, Any],
    images: list[dict[str, Any]],
    categories: list[tuple[int, str]],
    path: Path,
    counts: Counter,
) -> _Objects:
    """The objects of all images that have a box with area; how many have none goes to `counts`.

    Coordinates are rounded to 0.001 pixel, as PaddleDetection does.
    """
    class_of = {number: label for label, (number, _) in enumerate(categories)}
    place_of = {image["id"]: place for place, image in enumerate(images)}
    found, entries, strays = [], [], 0
    for item in content["annotations"]:
        entry = _entry(item, "annotations", ("image_id", "category_id"), path)
        image_id, category = entry["image_id"], entry["category_id"]
        if not isinstance(category, int) or category not in class_of:
            known = ", ".join(str(number) for number, _ in categories[:10])
            raise DataError(
                f"{path}: {_name(entry)} has category_id {category}, which is not among the "
                f"categories ({known}{', ...' if len(categories) > 10 else ''}); correct either"
            )
        if not isinstance(image_id, int) or image_id not in place_of:
            strays += 1
        elif entry.get("ignore"):
            continue
        elif not entry.get("bbox"):
            counts["dropped"] += 1
        else:
            found.append((place_of[image_id], class_of[category], bool(entry.get("iscrowd"))))
            entries.append(entry)
    if strays:
        LOG.warning("%s: %d annotations are of images it does not list", path, strays)
    boxes = _corners(entries, path)
    solid = (boxes[:, 2:] - boxes[:, :2] > SMALLEST_SIDE).all(axis=1)
    solid &= np.array([entry.get("area") is None or entry["area"] > 0 for entry in entries], bool)
    counts["dropped"] += int((~solid).sum())
    image, labels, crowd = np.array(found, np.int32).reshape(-1, 3)[solid].T
    return _Objects(image, np.round(boxes[solid], 3).astype(np.float32), labels, crowd.astype(bool))


def _corners(entries: list[dict[str, Any]], path: Path) -> np.ndarray:
    """[M, 4] float64, x1 y1 x2 y2, of annotations' x y width height."""
    for entry in entries:
        box, area = entry["bbox"], entry.get("area")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise DataError(f"{path}: {_name(entry)} has bbox {box}; it must be [x, y, width, height]")
        if area is not None and not _is_number(area):
            raise DataError(f"{path}: {_name(entry)} has area {area}; it must be a number")
    boxes = np.array([entry["bbox"] for entry in entries], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _is_number(value: Any) -> bool:
    """Finite, and no farther out than float32 reaches."""
    return isinstance(value, (int, float)) and -_FARTHEST < value < _FARTHEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _name(entry: dict[str, Any]) -> str:
    return f"annotation {entry.get('id')} of image {entry['image_id']}"


def _records(
    folder: Path, images: list[dict[str, Any]], objects: _Objects, counts: Counter
) -> Iterator[Record]:
    """The record of each image; how many boxes are clipped and dropped goes to `counts`.

    Boxes of all images are clipped at once and cut apart after: large data sets load in a third of the time.
    """
    sides = np.array([(image["width"], image["height"]) for image in images], np.float32)
    order = np.argsort(objects.image, kind="stable")
    image = objects.image[order]
    boxes, solid = clip(objects.boxes[order], np.tile(sides, 2)[image], counts)
    image, boxes, order = image[solid], boxes[solid], order[solid]
    labels, crowd = objects.labels[order], objects.crowd[order]
    starts = np.searchsorted(image, np.arange(len(images) + 1)).tolist()
    for place, entry in enumerate(images):
        mine = slice(starts[place], starts[place + 1])
        yield Record(
            image_id=entry["id"],
            path=os.path.join(folder, entry["file_name"]),
            width=int(entry["width"]),
            height=int(entry["height"]),
            boxes=boxes[mine],
            classes=labels[mine],
            is_crowd=crowd[mine],
        )
