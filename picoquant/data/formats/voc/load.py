"""Load annotations in Pascal VOC's XML format.

Source of the rules: PaddleDetection, ppdet/data/source/voc.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picoquant.data.dataset import Dataset
from picoquant.data.formats.assemble import assemble, objects_of
from picoquant.data.formats.files import (
    FoundFiles,
    files_below,
    find_files,
    read_label_list,
    read_lines,
    tell_renamed,
)
from picoquant.data.formats.repair import (
    LOG,
    find_images,
    no_annotations,
    require_own_images,
    tell_crowds,
    tell_unannotated,
)
from picoquant.data.formats.voc.annotation import Annotation, read_annotation
from picoquant.data.images import SUFFIXES
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)  # in the order of the challenge, which PaddleDetection numbers them by


def load_voc(settings: DatasetSettings, training: bool, problems: list[DataError] | None = None) -> Dataset:
    """Load a data set in VOC format.

    `anno_path` is a list with, on each line, either an image and its XML file, both relative to
    `image_dir` (PaddleDetection's way), or a name alone, as in VOC's own `ImageSets/Main/*.txt`: the
    image is then in `image_dir` (`JPEGImages` unless set), the XML file in `Annotations`. Or it is a folder: all XML
    files in it and below, their images in `image_dir`, `JPEGImages` or beside them.

    Classes are `classes` or the lines of `label_list`. Without them they are VOC's own twenty, when no other name
    occurs, or else all names in the folder of XML files, sorted.

    Objects marked difficult are trained on, and neither asked for nor counted wrong in evaluation.
    Everything else is as in `load_coco`.

    Raises: `DataError` naming the file and what to do; see `load_dataset` for `problems`.
    """
    path = settings.annotation_file
    entries, found = _files(settings)
    tell_renamed(found, [entry.xml for entry in entries], settings.section, "XML files")
    annotations = [read_annotation(Path(xml)) for xml in found.paths]
    images = find_images(settings, _images_of(settings, entries, annotations), training, problems)
    _tell_other_names(settings.section, found.paths, annotations, images)
    if path.is_dir():
        require_own_images(images, found.paths)
        folder = _image_folder(settings)
        tell_unannotated(settings.section, _images_below(folder), images.paths, f"no XML file in {path}")
    names = _class_names(settings, [Path(xml) for xml in found.paths], annotations)
    crowd = np.concatenate([np.zeros(0, bool), *(each.difficult & (not training) for each in annotations)])
    objects = objects_of(settings, found.paths, annotations, names, crowd, images.missing)
    tell_crowds(settings.section, objects.crowd, objects.name, "marked difficult", untrained=False)
    annotated = np.array([(each.width, each.height) for each in annotations], np.float64).reshape(-1, 2)
    return assemble(settings, images, annotated, objects, names, training, path, problems)


def _tell_other_names(
    section: str, files: Sequence[str], annotations: Sequence[Annotation], images: FoundFiles
) -> None:
    """Say how many XML files call their image by the name of another image of the data set."""
    stems = {_stem(os.path.basename(path)).casefold() for path in images.paths}
    other = []
    for place, (path, annotation) in enumerate(zip(images.paths, annotations)):
        said = _stem(annotation.image.replace("\\", "/").rsplit("/", 1)[-1]).casefold()
        if said in stems and said != _stem(os.path.basename(path)).casefold():
            other.append(place)
    if other:
        LOG.warning(
            "%s: %d of %d XML files have the <filename> of another image, such as %s, which says %s and is taken for "
            "%s: the files' own names count, or the list's pairs; correct the others if these are right",
            section,
            len(other),
            len(files),
            files[other[0]],
            annotations[other[0]].image,
            images.paths[other[0]],
        )


def label_files(settings: DatasetSettings) -> list[Path]:
    """The list of images, where there is one, and the XML files.

    Raises: `DataError` when there is neither list nor folder.
    """
    own = [settings.annotation_file] if settings.annotation_file.is_file() else []
    return [*own, *map(Path, _files(settings)[1].paths)]


def label_names(settings: DatasetSettings) -> set[str]:
    """All names in the XML files.

    Raises: as `load_voc`.
    """
    return {name for path in _files(settings)[1].paths for name in read_annotation(Path(path)).names}


def _files(settings: DatasetSettings) -> tuple[list[_Entry], FoundFiles]:
    """What the list, or the folder, names, and the XML files of it."""
    path = settings.annotation_file
    if not path.exists():
        raise no_annotations(path, settings.section)
    entries = _in_folder(path) if path.is_dir() else _listed(settings)
    return entries, find_files(settings.image_folder, [entry.xml for entry in entries])


@dataclass(frozen=True)
class _Entry:
    """An XML file and its image, both relative to the image folder or absolute; or what the image is called without
    its suffix, where only that is known."""

    xml: str
    image: str = ""
    stem: str = ""


_PAIR = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, SUFFIXES))}))\s+(\S.*\.xml)", re.IGNORECASE)
_MARKED = re.compile(r"(.+?)\s+(?:-1|0|1)")  # as in VOC's lists of one class


def _in_folder(folder: Path) -> list[_Entry]:
    """Raises: `DataError` when there is no XML file."""
    files = sorted(map(Path, files_below(folder, (".xml",))))
    if not files:
        raise DataError(
            f"no XML file in {folder}; anno_path takes a list of images or the folder of XML files"
        )
    return [_Entry(os.path.abspath(file), stem=_stem(str(file.relative_to(folder)))) for file in files]


def _listed(settings: DatasetSettings) -> list[_Entry]:
    """What each line of the list names."""
    path, annotations = settings.annotation_file, Path(os.path.abspath(settings.root / "Annotations"))
    lines = read_lines(path, f"{settings.section}.anno_path")
    if not lines:
        raise DataError(f"annotation file {path} is empty; {settings.section}.anno_path names it")
    known: set[str] | None = None
    entries = []
    for line in lines:
        pair, marked, name = _PAIR.fullmatch(line), _MARKED.fullmatch(line), line
        words = line.split()
        if pair or (len(words) == 2 and not marked):
            image, xml = pair.groups() if pair else words
            if pair or xml.lower().endswith(".xml"):
                entries.append(_Entry(xml, image))
                continue
        if marked:  # but "cell 1" may be a name
            if known is None:
                known = {_stem(os.path.basename(file)) for file in files_below(annotations, (".xml",))}
            name = line if _stem(line).rsplit("/", 1)[-1] in known else marked.group(1)
        entries.append(_Entry(str(annotations / f"{_stem(name)}.xml"), stem=_stem(name)))
    return entries


def _stem(name: str) -> str:
    r"""A name without the suffix of an image or XML file, with `/` for `\`."""
    plain = name.replace("\\", "/").removeprefix("./")
    stem, suffix = os.path.splitext(plain)
    return stem if suffix.lower() in (*SUFFIXES, ".xml") else plain


def _images_of(settings: DatasetSettings, entries: list[_Entry], annotations: list[Annotation]) -> list[str]:
    """Each entry's image; one that is known by its stem is looked for by that, then by what its XML file says."""
    if all(entry.image for entry in entries):
        return [entry.image for entry in entries]
    folder = _image_folder(settings)
    by_stem: dict[str, list[str]] = {}
    for path in _images_below(folder):
        stem = _stem(os.path.relpath(path, folder))
        for key in dict.fromkeys((stem, os.path.basename(stem))):
            by_stem.setdefault(key.casefold(), []).append(path)
    names = []
    for entry, annotation in zip(entries, annotations):
        said = annotation.image.replace("\\", "/").rsplit("/", 1)[-1]
        found: list[str] = []
        if not entry.image:
            for key in (entry.stem, os.path.basename(entry.stem), _stem(said)):
                found = found or by_stem.get(key.casefold(), [])
        named = [path for path in found if os.path.basename(path) == said] or found
        if len(named) > 1:
            raise DataError(
                f"{settings.annotation_file}: {entry.stem} may be {named[0]} or {named[1]}: write each image with its "
                "folder and suffix, or leave one of the two out"
            )
        default = os.path.join(folder, f"{entry.stem}.jpg")
        names.append(entry.image or (named[0] if named else default))
    return names


def _image_folder(settings: DatasetSettings) -> str:
    """Where images are looked for by name."""
    usual = settings.root / "JPEGImages"
    folder = settings.image_folder if settings.image_dir or not usual.is_dir() else usual
    if settings.annotation_file.is_dir() and not settings.image_dir and not usual.is_dir():
        folder = settings.annotation_file
    return os.path.abspath(folder)


def _images_below(folder: str) -> list[str]:
    return sorted(files_below(folder, SUFFIXES))


def _class_names(
    settings: DatasetSettings, files: list[Path], annotations: list[Annotation]
) -> tuple[str, ...]:
    if settings.classes:
        return settings.classes
    if settings.label_file is not None:
        return read_label_list(settings.label_file, settings.section)
    found = {name for annotation in annotations for name in annotation.names}
    if found <= set(VOC_CLASSES):
        return VOC_CLASSES
    # The other half of the data set may have classes that this one lacks, and must number them alike.
    rest = {other for folder in {file.parent for file in files} for other in folder.glob("*.xml")}
    for other in rest - set(files):
        found.update(read_annotation(other).names)
    LOG.info("%s: no label_list; classes are the names in the annotations, sorted", settings.section)
    return tuple(sorted(found))
