"""Load a data set that was drawn in LabelMe: one JSON file an image.

Source of the format: LabelMe, labelme/_label_file.py and examples/instance_segmentation/labelme2coco.py.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.data.dataset import Dataset
from picoquant.data.formats.assemble import assemble, objects_of
from picoquant.data.formats.files import Listing, files_below, read_label_list
from picoquant.data.formats.large.headers import in_threads
from picoquant.data.formats.repair import LOG, find_images, require_own_images, tell_unannotated
from picoquant.data.images import SUFFIXES
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError, reason_of

_NO_CLASSES = ("__ignore__", "_background_")  # in LabelMe's own labels.txt
_LEAST_POINTS = {"rectangle": 2, "polygon": 3}  # shapes that become boxes
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class _File:
    """One JSON file: boxes [G, 4] x1 y1 x2 y2, their names, the shapes left out by type, how many were joined,
    and how many of these are rectangles."""

    image: str
    width: float
    height: float
    boxes: np.ndarray
    names: tuple[str, ...]
    left_out: Counter[str]
    joined: int
    rectangles: int


def load_labelme(
    settings: DatasetSettings, training: bool, problems: list[DataError] | None = None
) -> Dataset:
    """Load the JSON files in a folder and those below it.

    They are in `anno_path`, or beside the images in `image_dir`. Rectangles, and boxes around polygons, are taken; what
    shares a label and a `group_id` is one object; other shapes are counted, named and left out. An image without a JSON
    file is not annotated yet and left out; one whose file has no shape has no object. Classes are `classes`, the lines
    of `label_list`, or all labels in the files, sorted. Everything else is as in `load_coco`.

    Raises: `DataError` naming the file and what to do; see `load_dataset` for `problems`.
    """
    section, folder = settings.section, annotation_folder(settings)
    files = label_files(settings)
    read = in_threads(lambda path: _read(Path(path)), list(map(str, files)))
    images = find_images(settings, _images_of(settings, files, read), training, problems)
    require_own_images(images, list(map(str, files)))
    below = files_below(settings.image_folder, SUFFIXES)
    tell_unannotated(section, list(map(os.path.abspath, below)), images.paths, f"no JSON file in {folder}")
    names = _class_names(settings, read)
    _tell_shapes(section, files, read)
    crowd = np.zeros(sum(len(each.boxes) for each in read), bool)
    objects = objects_of(settings, files, read, names, crowd)
    annotated = np.array([(each.width, each.height) for each in read], np.float64).reshape(-1, 2)
    return assemble(settings, images, annotated, objects, names, training, folder, problems)


def annotation_folder(settings: DatasetSettings) -> Path:
    """The folder of JSON files."""
    return settings.annotation_file if settings.anno_path else settings.image_folder


def label_files(settings: DatasetSettings) -> list[Path]:
    """The JSON files, those that are nothing of LabelMe's left out.

    Raises: `DataError` when the folder is missing or holds none.
    """
    folder, section = annotation_folder(settings), settings.section
    if not folder.is_dir():
        raise DataError(
            f"no folder {folder}; {section}.dataset_dir and {section}.image_dir name the LabelMe files"
        )
    files = [path for path in sorted(map(Path, files_below(folder, (".json",)))) if is_labelme(path)]
    if not files:
        raise DataError(
            f"no JSON file of LabelMe in {folder}; {section}.dataset_dir, {section}.image_dir and {section}.anno_path "
            "say where they are"
        )
    return files


def is_labelme(path: Path) -> bool:
    """Whether a JSON file seems to be LabelMe's: it has the key `shapes`, which its writers put first or last."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(1 << 16)
            if b'"shapes"' in start:
                return True
            stream.seek(max(os.path.getsize(path) - (1 << 16), 0))
            return b'"shapes"' in stream.read() or b'"imagePath"' in start
    except OSError:
        return False


def label_names(settings: DatasetSettings) -> set[str]:
    """All labels in the files.

    Raises: as `load_labelme`.
    """
    read = in_threads(lambda path: _read(Path(path)), list(map(str, label_files(settings))))
    return {name for each in read for name in each.names}


def _read(path: Path) -> _File:
    """Raises: `DataError` when it is no file of LabelMe's, or a shape cannot be used."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as JSON{reason_of(error)}; correct it or take it away"
        ) from error
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list):
        raise DataError(f"{path} is no file of LabelMe: it has no list 'shapes'; correct it or take it away")
    sides = [content.get(key) for key in ("imageWidth", "imageHeight")]
    if not all(_is_number(side) and side > 0 for side in sides):
        sides = [0, 0]  # older versions do not write them; the image has its own
    grouped: dict[Any, np.ndarray] = {}
    names: dict[Any, str] = {}
    left_out: Counter[str] = Counter()
    joined = rectangles = 0
    for number, shape in enumerate(shapes, start=1):
        kind, name, points = _shape(shape, number, path)
        if points is None:
            left_out[kind] += 1
            continue
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        group = shape.get("group_id")
        key = (name, str(group)) if group is not None else number
        if key in grouped:
            joined += 1
            rectangles += kind == "rectangle"
            old = grouped[key]
            box = np.concatenate([np.minimum(old[:2], box[:2]), np.maximum(old[2:], box[2:])])
        grouped[key], names[key] = box, name
    boxes = np.array(list(grouped.values()), np.float64).reshape(-1, 4)
    image = content.get("imagePath")
    said = image if isinstance(image, str) and "\0" not in image else ""
    return _File(said, sides[0], sides[1], boxes, tuple(names.values()), left_out, joined, rectangles)


def _shape(shape: Any, number: int, path: Path) -> tuple[str, str, np.ndarray | None]:
    """A shape's type and label, and its points [P, 2]; None for one that becomes no box."""
    where = f"{path}: shape {number}"
    if not isinstance(shape, dict):
        raise DataError(f"{where} is {str(shape)[:_SHOWN]!r}; it must have label, points and shape_type")
    kind, name = (
        shape.get("shape_type") or "polygon",
        shape.get("label"),
    )  # the first versions had polygons alone
    if not isinstance(name, (str, int)) or not str(name).strip():
        raise DataError(f"{where} has the label {str(name)[:_SHOWN]!r}; give it the name of its class")
    name = str(name).strip()
    if kind not in _LEAST_POINTS:
        return str(kind)[:_SHOWN], name, None
    points = shape.get("points")
    usable = isinstance(points, list) and all(
        isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in points
    )
    if not usable or len(points) < _LEAST_POINTS[kind]:
        raise DataError(
            f"{where} ({kind} {name}) has the points {str(points)[:_SHOWN]}; it must be [[x, y], …]"
        )
    return kind, name, np.array(points, np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e9 < value < 1e9


def _images_of(settings: DatasetSettings, files: Sequence[Path], read: Sequence[_File]) -> list[str]:
    """Each file's image: the one it names, or the one of its own name, beside it or in `image_dir`."""
    listing, names = Listing(), []
    for file, each in zip(files, read):
        near = [os.path.abspath(file.parent), os.path.abspath(settings.image_folder)]
        plain = each.image.replace("\\", "/")
        found = None
        for folder in near if plain else ():
            written = os.path.join(folder, plain)
            found = found or (written if listing.holds(written) else listing.alike(folder, plain))
        for folder in near:
            own = (os.path.join(folder, f"{file.stem}{suffix}") for suffix in SUFFIXES)
            found = found or next((path for path in own if listing.holds(path)), None)
            found = found or next(
                (path for suffix in SUFFIXES if (path := listing.alike(folder, f"{file.stem}{suffix}"))), None
            )
        names.append(os.path.abspath(found or file.with_suffix(".jpg")))  # without `..`, too
    return names


def given_names(settings: DatasetSettings) -> tuple[str, ...] | None:
    """The class names that `classes` or `label_list` say; None where the labels in the files are the classes.

    Raises: `DataError` for a list that cannot be used.
    """
    if settings.classes or settings.label_file is None:
        return settings.classes
    listed = read_label_list(settings.label_file, settings.section)
    return tuple(name for name in listed if name not in _NO_CLASSES)


def _class_names(settings: DatasetSettings, read: Sequence[_File]) -> tuple[str, ...]:
    given = given_names(settings)
    if given is not None:
        return given
    LOG.info("%s: no label_list; classes are the labels in the annotations, sorted", settings.section)
    return tuple(sorted({name for each in read for name in each.names}))


def _tell_shapes(section: str, files: Sequence[Path], read: Sequence[_File]) -> None:
    """Say which shapes become no object of their own.

    Raises: `DataError` where most are rectangles that share a group with another.
    """
    left_out = sum((each.left_out for each in read), Counter())
    if left_out:
        first = next(file for file, each in zip(files, read) if each.left_out)
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common())
        LOG.warning(
            "%s: shapes that are neither rectangle nor polygon are left out: %s, such as in %s",
            section,
            kinds,
            first,
        )
    joined = [file for file, each in zip(files, read) if each.joined]
    if not joined:
        return
    count, rectangles = sum(each.joined for each in read), sum(each.rectangles for each in read)
    said = (
        f"{section}: {count} shapes share label and group_id with another and are one object with it, such as in "
        f"{joined[0]}"
    )
    if 2 * rectangles > count + sum(len(each.boxes) for each in read):
        raise DataError(f"{said}; most are rectangles: take group_id away where each is an object of its own")
    LOG.log(logging.WARNING if rectangles else logging.INFO, "%s", said)
