"""From what annotation files say to a data set: for formats whose boxes are gathered from many files.

N images, M boxes in all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.data.dataset import Dataset, Repairs
from picoquant.data.formats.boxes import RawBoxes, pixel_boxes
from picoquant.data.formats.files import FoundFiles
from picoquant.data.formats.repair import Tally, choose, clip, packed, report, tell_written_twice
from picoquant.data.formats.sizes import compare_sizes, file_sizes, measured_sizes
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from picoquant.utils.suggest import suggestion


@dataclass(frozen=True)
class Objects:
    """The boxes of all images, in the order of the images.

    Attributes:
        owner: [M] int, the image of each box, ascending.
        numbers: [M, 4] float64, as the files have them.
        usual: how the format means these, see `boxes.RawBoxes`.
        classes: [M] int32.
        crowd: [M] bool, neither found nor missed in evaluation.
        name: what messages call a box, by its place.
    """

    owner: np.ndarray
    numbers: np.ndarray
    usual: str
    classes: np.ndarray
    crowd: np.ndarray
    name: Callable[[int], str]


def objects_of(
    settings: DatasetSettings,
    files: Sequence[Path | str],
    annotations: Sequence[Any],
    class_names: Sequence[str],
    crowd: np.ndarray,
    missing: Collection[int] = (),
) -> Objects:
    """The objects of files that annotate an image each, by corners and class names.

    Args:
        settings: of the data set.
        files: of each image.
        annotations: what each holds: `boxes` [G, 4] x1 y1 x2 y2 and `names`, of as many.
        class_names: in their order.
        crowd: [M] bool, see `Objects`.
        missing: places of images that are not there, whose objects may be of any class.

    Raises: `DataError` naming the file of a class that is not among `class_names`.
    """
    class_of = {name: label for label, name in enumerate(class_names)}
    for place, annotation in enumerate(annotations):
        for name in () if place in missing else annotation.names:
            if name not in class_of:
                where = f"{settings.section}.classes" if settings.classes else settings.label_file
                hint = suggestion(name, class_names)
                raise DataError(f"{files[place]}: class {name!r} is not in {where}{hint}; add it there")
    owner = np.repeat(np.arange(len(files)), [len(each.boxes) for each in annotations])
    starts = np.searchsorted(owner, np.arange(len(files)))
    return Objects(
        owner,
        np.concatenate([np.zeros((0, 4)), *(each.boxes for each in annotations)]),
        "xyxy",
        np.array([class_of.get(name, -1) for each in annotations for name in each.names], np.int32),
        crowd,
        lambda place: f"object {place - starts[owner[place]] + 1} of {files[owner[place]]}",
    )


def assemble(
    settings: DatasetSettings,
    images: FoundFiles,
    annotated: np.ndarray | None,
    objects: Objects,
    class_names: Sequence[str],
    training: bool,
    annotation_file: Path,
    problems: list[DataError] | None = None,
) -> Dataset:
    """The data set of these images and boxes, with boxes read, repaired or refused as in every format.

    Args:
        settings: of the data set.
        images: N files, numbered from 1 in this order; what is missing is left out.
        annotated: [N, 2] width and height, pixels, as the files of annotations have them, 0 where they say nothing;
            None for a format that has none. Images without are measured.
        objects: their boxes.
        class_names: in their order.
        training: see `choose`.
        annotation_file: what messages call the annotations.
        problems: see `load_dataset`.

    Raises: `DataError` as `pixel_boxes`, `compare_sizes`, `measured_sizes` and `choose` do.
    """
    tally = Tally()
    if annotated is not None and annotated.all():
        sizes, faults = file_sizes(images.paths, annotated)
    else:
        sizes, unread = measured_sizes(images, settings.section, training, problems)
        faults = {images.paths[place]: fault for place, fault in unread.items()}
        images = replace(images, missing=images.missing | unread.keys())
        annotated = sizes if annotated is None else np.where(annotated > 0, annotated, sizes)
    owner, name = objects.owner, objects.name
    bounds = np.maximum(annotated, sizes)
    stated = np.full(len(owner), np.nan)
    raw = RawBoxes(objects.numbers, sizes[owner], bounds[owner], stated, objects.usual, name)
    boxes, _ = pixel_boxes(raw, settings)
    tell_written_twice(settings.section, owner, objects.classes, boxes, name)
    compare_sizes(images.paths, annotated, sizes, owner, boxes, settings, name)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = np.round(corners, 3).astype(np.float32)  # as of COCO
    corners, solid = clip(corners, np.tile(sizes.astype(np.float32), 2)[owner], tally, name)
    records = packed(
        range(1, len(images.paths) + 1),
        images.paths,
        sizes,
        owner[solid],
        corners[solid],
        objects.classes[solid],
        objects.crowd[solid],
    )
    chosen, left_out, crowds = choose(settings, records, images.missing, training, problems)
    missing = tuple(sorted(images.paths[place] for place in images.missing))
    dataset = Dataset(
        records=chosen,
        class_names=tuple(class_names),
        category_ids=tuple(range(1, len(class_names) + 1)),
        section=settings.section,
        annotation_file=annotation_file,
        format=settings.format,
        repairs=Repairs(tally.count["clipped"], tally.count["dropped"], left_out, crowds, missing, faults),
    )
    report(dataset, tally, refused=bool(problems))
    return dataset
