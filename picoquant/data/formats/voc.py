"""Load annotations in Pascal VOC's XML format.

Source of the rules: PaddleDetection, ppdet/data/source/voc.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from picoquant.data.dataset import Dataset, Record, Repairs
from picoquant.data.formats.boxes import RawBoxes, pixel_boxes
from picoquant.data.formats.repair import (
    LOG,
    Tally,
    check_files,
    choose,
    clip,
    no_annotations,
    report,
    tell_crowds,
)
from picoquant.data.formats.sizes import compare_sizes, file_sizes
from picoquant.data.images import SUFFIXES
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from picoquant.utils.suggest import suggestion

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)  # in the order of the challenge, which PaddleDetection numbers them by

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _Annotation:
    """One XML file: boxes [G, 4] as they stand there, names and difficulties [G]."""

    width: float
    height: float
    boxes: np.ndarray
    names: tuple[str, ...]
    difficult: np.ndarray


def load_voc(settings: DatasetSettings, training: bool, problems: list[DataError] | None = None) -> Dataset:
    """Load a data set in VOC format.

    `anno_path` is a list with, on each line, either an image and its XML file, both relative to
    `image_dir` (PaddleDetection's way), or a name alone, as in VOC's own `ImageSets/Main/*.txt`: the
    image is then in `image_dir` (`JPEGImages` unless set), the XML file in `Annotations`.

    Classes are the lines of `label_list`. Without it they are VOC's own twenty, when no other name
    occurs, or else all names in the folder of XML files, sorted.

    Objects marked difficult are trained on, and neither asked for nor counted wrong in evaluation.
    Everything else is as in `load_coco`.

    Raises: `DataError` naming the file and what to do; see `load_dataset` for `problems`.
    """
    path = settings.annotation_file
    if not path.is_file():
        raise no_annotations(path, settings.section)
    pairs = _listed(settings)
    missing = check_files(settings, [image for image, _ in pairs], training, problems)
    annotations = [_read(Path(xml)) for _, xml in pairs]
    names = _class_names(settings, [Path(xml) for _, xml in pairs], annotations)
    class_of = {name: label for label, name in enumerate(names)}
    for (image, xml), found in zip(pairs, annotations):
        for name in () if image in missing else found.names:
            if name not in class_of:
                hint = suggestion(name, names)
                raise DataError(f"{xml}: class {name} is not in {settings.label_file}{hint}; add it there")
    tally, records, empty = Tally(), [], []
    paths = [os.path.join(settings.image_folder, image) for image, _ in pairs]
    annotated = np.array([(found.width, found.height) for found in annotations], np.float64)
    sizes, faults = file_sizes(paths, annotated)
    files = _Files([xml for _, xml in pairs], paths, annotated, sizes)
    for (image, _), record in zip(pairs, _records(settings, files, annotations, class_of, training, tally)):
        if image not in missing:
            (empty if record.is_crowd.all() else records).append(record)
    chosen, left_out = choose(settings, records, empty, training, problems)
    crowds = sum(bool(len(record.boxes)) for record in empty) if left_out == len(empty) else 0
    repairs = Repairs(
        tally.count["clipped"], tally.count["dropped"], left_out, crowds, tuple(sorted(missing)), faults
    )
    dataset = Dataset(
        records=chosen,
        class_names=names,
        category_ids=tuple(range(1, len(names) + 1)),
        section=settings.section,
        annotation_file=path,
        format="voc",
        repairs=repairs,
    )
    report(dataset, tally, refused=bool(problems))
    return dataset


@dataclass(frozen=True)
class _Files:
    """XML files and images, and the images' sizes [N, 2] (width, height) as annotated and as they are."""

    xml: list[str]
    paths: list[str]
    annotated: np.ndarray
    sizes: np.ndarray


def _records(
    settings: DatasetSettings,
    files: _Files,
    annotations: list[_Annotation],
    class_of: dict[str, int],
    training: bool,
    tally: Tally,
) -> Iterator[Record]:
    """The record of each image, its boxes read as `box_format` says, clipped, and dropped without area."""
    paths, annotated, sizes = files.paths, files.annotated, files.sizes
    owner = np.repeat(np.arange(len(paths)), [len(found.boxes) for found in annotations])
    numbers = np.concatenate([np.zeros((0, 4)), *(found.boxes for found in annotations)])

    def name(place: int) -> str:
        within = place - int(np.searchsorted(owner, owner[place]))
        return f"object {within + 1} of {files.xml[owner[place]]}"

    bounds = np.maximum(annotated, sizes)[owner]
    raw = RawBoxes(numbers, sizes[owner], bounds, np.full(len(owner), np.nan), "xyxy", name)
    boxes, _ = pixel_boxes(raw, settings)
    compare_sizes(paths, annotated, sizes, owner, boxes, settings, name)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1).astype(np.float32)
    difficult = np.concatenate([np.zeros(0, bool), *(found.difficult for found in annotations)])
    if not training:
        tell_crowds(settings.section, difficult, name, "marked difficult", untrained=False)
    corners, solid = clip(corners, np.tile(sizes.astype(np.float32), 2)[owner], tally, name)
    labels = np.array([class_of.get(name, -1) for found in annotations for name in found.names], np.int32)
    owner, corners, labels, difficult = owner[solid], corners[solid], labels[solid], difficult[solid]
    starts = np.searchsorted(owner, np.arange(len(paths) + 1)).tolist()
    for number in range(len(paths)):
        mine = slice(starts[number], starts[number + 1])
        yield Record(
            image_id=number + 1,
            path=paths[number],
            width=int(sizes[number, 0]),
            height=int(sizes[number, 1]),
            boxes=corners[mine],
            classes=labels[mine],
            is_crowd=difficult[mine] & (not training),
        )


def _lines(path: Path, key: str) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as text ({error}); {key} names it") from error
    if "\0" in text:
        raise DataError(f"{path} is no text; {key} names it")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _listed(settings: DatasetSettings) -> list[tuple[str, str]]:
    """(image, XML file) of each line; the image as `check_files` takes it."""
    path, folder = settings.annotation_file, settings.image_folder
    lines = [line.split() for line in _lines(path, f"{settings.section}.anno_path")]
    if not lines:
        raise DataError(f"annotation file {path} is empty; {settings.section}.anno_path names it")
    named = [len(words) == 1 or words[1] in ("-1", "0", "1") for words in lines]
    files: dict[str, str] = {}
    if any(named):
        images = folder if settings.image_dir else settings.root / "JPEGImages"
        if images.is_dir():
            files = {entry.stem: str(entry.resolve()) for entry in _images_in(images)}
    pairs = []
    for words, by_name in zip(lines, named):
        if by_name:
            image = files.get(words[0], str((folder / f"{words[0]}.jpg").resolve()))
            pairs.append((image, str(settings.root / "Annotations" / f"{words[0]}.xml")))
        else:
            pairs.append((words[0], str(folder / words[1])))
    return pairs


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _read(path: Path) -> _Annotation:
    """Raises: `DataError` when the file is missing or no VOC annotation."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; the list of images names it") from error
    try:
        if b"<!ENTITY" in data:  # none needs them, and they can be made to fill the memory
            raise ValueError("it declares entities")
        root = ElementTree.fromstring(data)
        size, objects = root.find("size"), root.findall("object")
        width, height = (float(size.find(side).text) for side in ("width", "height"))
        corners = [[float(o.find("bndbox").find(k).text) for k in _CORNERS] for o in objects]
        if not (width > 0 and height > 0 and np.isfinite(corners).all()):
            raise ValueError("it has a size or corner that is none")
        return _Annotation(
            width,
            height,
            np.array(corners, np.float64).reshape(-1, 4),
            tuple(o.find("name").text.strip() for o in objects),
            np.array([(o.findtext("difficult") or "0").strip() == "1" for o in objects], bool),
        )
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError, LookupError) as error:
        raise DataError(
            f"{path} is no VOC annotation ({error}); correct it or take it off the list"
        ) from error


def _class_names(
    settings: DatasetSettings, files: list[Path], annotations: list[_Annotation]
) -> tuple[str, ...]:
    path = settings.label_file
    if path is not None:
        if not path.is_file():
            raise DataError(f"no label list {path}; {settings.section}.label_list names it")
        return read_label_list(path, settings.section)
    found = {name for annotation in annotations for name in annotation.names}
    if found <= set(VOC_CLASSES):
        return VOC_CLASSES
    # The other half of the data set may have classes that this one lacks, and must number them alike.
    rest = {other for folder in {file.parent for file in files} for other in folder.glob("*.xml")}
    for other in rest - set(files):
        found.update(_read(other).names)
    LOG.info("%s: no label_list; classes are the names in the annotations, sorted", settings.section)
    return tuple(sorted(found))


def read_label_list(path: Path, section: str) -> tuple[str, ...]:
    """The class names of a `label_list`, one a line.

    Raises: `DataError` when it is empty or names a class twice.
    """
    names = _lines(path, f"{section}.label_list")
    if not names or len(set(names)) < len(names):
        raise DataError(f"label list {path} is empty or names a class twice; one class a line")
    return tuple(names)
