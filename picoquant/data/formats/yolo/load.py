"""Load a data set in YOLO's format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from picoquant.data.dataset import Dataset
from picoquant.data.formats.assemble import Objects, assemble
from picoquant.data.formats.files import read_label_list, read_lines
from picoquant.data.formats.repair import require_images
from picoquant.data.formats.yolo.description import NAME_FILES, Description, describe
from picoquant.data.formats.yolo.labels import Labels, read_labels
from picoquant.data.formats.yolo.layout import PartFiles, part_files, part_names, part_sources
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

_USUAL = "cxcywh_normalised"
_NAMED = 10  # so many class names in one message
_ENOUGH = 20  # boxes of which none is of the first class are hardly a chance


def load_yolo(settings: DatasetSettings, training: bool, problems: list[DataError] | None = None) -> Dataset:
    """Load a part of a data set in YOLO's format.

    Which images: `image_dir`, a folder or a list; without it the part `split` of data.yaml (`train` for TrainDataset,
    else `val`), or folders of the usual names. Labels are in `labels/` in place of `images/`, or beside the images.
    An image without a label file, or with an empty one, has no objects. Of polygons the box around them is taken,
    confidences and key points are passed by. Numbers are parts of the image as it is decoded (EXIF orientation
    applied). Everything else is as in `load_coco`.

    Raises: `DataError` naming file, line and what to do; see `load_dataset` for `problems`.
    """
    section = settings.section
    root, description = described(settings)
    names = _class_names(settings, description)
    sources = sources_of(settings, root, description)
    if description and _same_as_train(settings, root, description, sources):
        LOG.warning("%s: the same images as train: its mAP says nothing about other images", section)
    found = part_files(root, sources, section)
    require_images(found.images, section, training, problems)
    _tell_files(found, section)
    labels = read_labels(
        [None if place in found.images.missing else label for place, label in enumerate(found.labels)],
        description.keypoints if description else 0,
    )
    file = description.file if description else root
    _require_classes(labels, found.labels, names, file)
    if labels.repeated:
        LOG.warning("%s: %d lines of labels are there twice: taken once", section, labels.repeated)
    paths, owner, lines = found.labels, labels.owner, labels.line
    _tell_doubts(labels, lambda place: f"{paths[owner[place]]}:{lines[place]}", names, section)
    if description and names == description.names:
        _tell_other_names(root, description, paths, section)
    objects = Objects(
        owner,
        _as_written(labels, settings.box_format or _USUAL),
        _USUAL,
        labels.classes.astype(np.int32),
        np.zeros(len(owner), bool),
        lambda place: f"{paths[owner[place]]}:{lines[place]}",
    )
    return assemble(settings, found.images, None, objects, names, training, file, problems)


def _same_as_train(
    settings: DatasetSettings, root: Path, description: Description, sources: tuple[Path, ...]
) -> bool:
    """Whether a part to evaluate on is that which is trained on; whoever only evaluates need not have the latter."""
    if settings.section == "TrainDataset" or settings.split == "train":
        return False
    try:
        return sources == part_sources(root, description, "train")
    except DataError:
        return False


def yolo_class_names(settings: DatasetSettings) -> tuple[str, ...] | None:
    """The names of the classes, without reading labels; None where nothing says them.

    Raises: `DataError` for a file that cannot be used.
    """
    if not settings.classes and settings.label_file is None and not settings.annotation_file.exists():
        return None
    return _class_names(settings, described(settings)[1])


def yolo_files(settings: DatasetSettings) -> tuple[list[Path], list[Path]]:
    """The files that annotate a part, those that describe the data set included, and its images.

    Raises: `DataError` as `load_yolo` does when it is not found.
    """
    root, description = described(settings)
    sources = sources_of(settings, root, description)
    found = part_files(root, sources, settings.section)
    own = [description.file] if description else []
    own += [source for source in sources if source.is_file()]
    return own + [Path(path) for path in found.labels if path is not None], list(
        map(Path, found.images.paths)
    )


def described(settings: DatasetSettings) -> tuple[Path, Description | None]:
    """The folder of a data set, and what describes it; None where the settings alone do.

    Raises: `DataError` when nothing does.
    """
    root, named = settings.root, settings.annotation_file if settings.anno_path else None
    if root.is_file():
        root, named = root.parent, root
    if named is not None and not named.is_file():
        raise DataError(f"no file {named}; {settings.section}.anno_path names YOLO's data.yaml")
    if not root.is_dir():
        raise DataError(f"no folder {root}; {settings.section}.dataset_dir names the YOLO data set")
    description = describe(root, named)
    if description is None and not (settings.image_dir and (settings.classes or settings.label_list)):
        raise DataError(
            f"{root} says nothing of its classes: a YOLO data set has one of {', '.join(NAME_FILES)}; "
            f"{settings.section}.dataset_dir names it"
        )
    return root, description


def sources_of(settings: DatasetSettings, root: Path, description: Description | None) -> tuple[Path, ...]:
    """Image folders and lists of the part that a section reads.

    Raises: `DataError` when the data set has no such part.
    """
    if settings.image_dir or description is None:
        source = root / Path(settings.image_dir).expanduser()
        if not source.exists():
            raise DataError(
                f"no images in {source}; {settings.section}.image_dir names a folder or a list of images"
            )
        return (source,)
    split = settings.split or ("train" if settings.section == "TrainDataset" else "val")
    sources = part_sources(root, description, split)
    if not sources:
        there = ", ".join(part_names(root, description))
        raise DataError(
            f"{description.file}: the data set has no part {split}, only {there}; add `{split}: …`, or set "
            f"{settings.section}.split or {settings.section}.image_dir"
        )
    return sources


def _class_names(settings: DatasetSettings, description: Description | None) -> tuple[str, ...]:
    if settings.classes:
        return settings.classes
    if settings.label_file is not None or description is None:
        return read_label_list(settings.label_file, settings.section)
    return description.names


def _tell_files(found: PartFiles, section: str) -> None:
    """Say which images have no label file, and which label files no image.

    Raises: `DataError` when that are all images, or most label files.
    """
    without = [place for place, label in enumerate(found.labels) if label is None]
    total = len(found.labels)
    if len(without) == total:
        raise DataError(
            f"{section}: none of {total} images has a label file; that of {found.images.paths[0]} would be "
            f"{found.expected[0]}, or beside it"
        )
    if without:
        level = logging.WARNING if 2 * len(without) > total else logging.INFO
        LOG.log(
            level,
            "%s: %d of %d images have no label file, such as %s (%s): taken as without objects",
            section,
            len(without),
            total,
            found.images.paths[without[0]],
            found.expected[without[0]],
        )
    if found.orphans:
        said = f"{section}: {len(found.orphans)} label files have no image, such as {found.orphans[0]}"
        if len(found.orphans) > total - len(without):
            raise DataError(f"{said}; put the images there, or remove the labels")
        LOG.warning("%s", said)


def _require_classes(
    labels: Labels, files: Sequence[str | None], names: tuple[str, ...], said_in: Path
) -> None:
    """Raises: `DataError` naming the first line whose class is none of `names`."""
    strange = (labels.classes < 0) | (labels.classes >= len(names))
    if strange.any():
        place = int(np.flatnonzero(strange)[0])
        known = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
        from_one = labels.classes.min() == 1 and labels.classes.max() == len(names)
        raise DataError(
            f"{files[labels.owner[place]]}:{labels.line[place]}: class {labels.classes[place]} is none of 0 to "
            f"{len(names) - 1}, as {said_in} has {len(names)} classes ({known}); {strange.sum()} of {len(strange)} "
            f"boxes are so: correct either{' (classes count from 0)' if from_one else ''}"
        )


def _tell_doubts(labels: Labels, name: Callable[[int], str], names: tuple[str, ...], section: str) -> None:
    """Say what may mean something else than it is taken for: classes counted from 1, angles for confidences."""
    if labels.unsure:
        LOG.warning(
            "%s: %d of %d lines have a sixth number that is no confidence from 0 to 1, such as %s (an angle? an "
            "object's number?): passed by, boxes are read as not turned",
            section,
            len(labels.unsure),
            len(labels.owner),
            name(labels.unsure[0]),
        )
    if len(names) > 1 and len(labels.classes) >= _ENOUGH and labels.classes.min() > 0:
        LOG.warning(
            "%s: none of %d boxes is of class 0, %s, and the first is of class %d (%s): classes count from 0, not "
            "from 1",
            section,
            len(labels.classes),
            names[0],
            labels.classes[0],
            name(0),
        )


def _tell_other_names(
    root: Path, description: Description, labels: Sequence[str | None], section: str
) -> None:
    """Say which list of class names, as tools leave it beside labels, has others than those that count."""
    beside = [Path(path).parent for path in labels if path]
    folders = dict.fromkeys([root, root / "labels", *sorted((root / "labels").glob("*/")), *beside])
    for path in (folder / name for folder in folders for name in ("classes.txt", "obj.names")):
        if path != description.file and path.is_file():
            try:
                listed = tuple(read_lines(path, section))
            except DataError:
                continue  # nothing depends on it
            if listed != description.names:
                LOG.warning(
                    "%s: %s names the classes %s, but %s %s, which count: where labels were written by the other "
                    "list, put that in its place",
                    section,
                    path,
                    ", ".join(listed[:_NAMED]),
                    description.file,
                    ", ".join(description.names[:_NAMED]),
                )
                return


def _as_written(labels: Labels, how: str) -> np.ndarray:
    """[M, 4] the boxes' numbers with those around polygons written as boxes are, see `box_format`."""
    numbers, corners = labels.numbers.copy(), labels.numbers[labels.polygon]
    start, sides = corners[:, :2], corners[:, 2:] - corners[:, :2]
    if how.startswith("cxcywh"):
        start = start + sides / 2
    if not how.startswith("xyxy"):
        numbers[labels.polygon] = np.concatenate([start, sides], axis=1)
    return numbers
