"""Sizes of images: what is annotated, held against what the files are."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

import numpy as np

from picoquant.data.formats.files import FoundFiles
from picoquant.data.formats.large.headers import SIZES_A_SECOND, header_sizes
from picoquant.data.formats.repair import refuse, too_many
from picoquant.data.images import UnreadableImageError, header_fault, read_image
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError
from picoquant.utils.helpers.helpers import Helpers

LOG = logging.getLogger("picoquant")

_ROUNDING = 1.0  # pixels
_RESIZED, _SAME_RATIO = (
    0.05,
    0.02,
)  # parts by which the sides of a resized image differ, at least, and their ratio


def file_sizes(
    paths: Sequence[str], annotated: np.ndarray, helpers: Helpers | None = None
) -> tuple[np.ndarray, dict[str, str]]:
    """Width and height of image files [N, 2] float64, as their headers say; as annotated [N, 2] where they do not.

    A file that is not there keeps its annotated size.

    Returns: the sizes; and path -> what `header_fault` says of the files that are damaged, as a sentence.
    """
    share = None if helpers is None else helpers.share
    found = share(header_sizes, paths, len(paths) / SIZES_A_SECOND) if share else header_sizes(paths)
    sizes = [own or stated for own, stated in zip(found, annotated.tolist())]
    unknown = [path for path, own in zip(paths, found) if own is None and os.path.exists(path)]
    faults = {path: f"image {path} {fault}" for path in unknown if (fault := header_fault(path))}
    return np.array(sizes, np.float64).reshape(-1, 2), faults


def measured_sizes(
    images: FoundFiles, section: str, training: bool, problems: list[DataError] | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Width and height of images [N, 2] float64 as they are decoded; place -> what is wrong where it cannot be read.

    Only what has no readable header is decoded for it. A file that is missing or cannot be read counts as 1 x 1.

    Args:
        images: the files.
        section: of the data set.
        training: under 1 % may be unreadable.
        problems: see `load_dataset`.

    Raises: `DataError` naming the first that cannot be read.
    """
    sizes = header_sizes(images.paths)
    errors: dict[int, str] = {}
    for place, size in enumerate(sizes):
        if size is None and place not in images.missing:
            try:
                height, width = read_image(images.paths[place]).shape[:2]
                sizes[place] = (width, height)
            except UnreadableImageError as error:
                errors[place] = str(error)
    if errors:
        first = next(iter(errors.values()))
        said = f"{section}: {len(errors)} of {len(sizes)} images cannot be read: {first}"
        if not training or too_many(len(errors), len(sizes)):
            refuse(said, problems)
        else:
            LOG.warning("%s", said)
    return np.array([size or (1, 1) for size in sizes], np.float64).reshape(-1, 2), errors


def compare_sizes(
    paths: Sequence[str],
    annotated: np.ndarray,
    own: np.ndarray,
    image: np.ndarray,
    boxes: np.ndarray,
    settings: DatasetSettings,
    name: Callable[[int], str],
) -> None:
    """Say how many images have another size than annotated, and what becomes of their boxes: pixels count.

    Args:
        paths: the images, N.
        annotated: [N, 2] width and height.
        own: [N, 2], see `file_sizes`.
        image: [M] the image of each box.
        boxes: [M, 4] x y width height, pixels.
        settings: of the data set; a `box_format` that is set says that boxes are meant as they are.
        name: what messages call a box, by its place.

    Raises: `DataError` when that are the images of most boxes, and boxes fit the annotated size only.
    """
    differs = (own != annotated).any(axis=1)
    if not differs.any():
        return
    first = int(np.flatnonzero(differs)[0])
    sides = [f"{width:g}x{height:g}" for width, height in (own[first], annotated[first])]
    said = (
        f"{differs.sum()} of {len(differs)} images have another size than annotated, the first: image {paths[first]} "
        f"is {sides[0]}, but annotated as {sides[1]}"
    )
    theirs = differs[image]
    ends = boxes[:, :2] + boxes[:, 2:]
    outside = theirs & (ends > own[image] + _ROUNDING).any(axis=1)
    lost = outside & (boxes[:, :2] >= own[image]).any(axis=1)
    if outside.any():
        place = int(np.flatnonzero(lost if lost.any() else outside)[0])
        numbers = ", ".join(f"{number:.6g}" for number in boxes[place])
        said += (
            f"; {outside.sum()} of their {theirs.sum()} boxes reach out of them, {lost.sum()} of these are lost, "
            f"such as {name(place)} [{numbers}]"
        )
    fit_annotated = (ends <= annotated[image] + _ROUNDING).all(axis=1)
    meant = outside & fit_annotated
    if settings.box_format is None and 2 * theirs.sum() > len(image) and meant.any():
        raise DataError(
            f"{settings.annotation_file}: {said}; boxes count in the pixels of the file (an EXIF orientation turns "
            f"images): give each image its own size and boxes, or set {settings.section}.box_format where they are "
            "meant so"
        )
    ratio = own / annotated
    alike = np.abs(ratio[:, 0] / ratio[:, 1] - 1) < _SAME_RATIO
    resized = differs & alike & (np.abs(ratio - 1) > _RESIZED).all(axis=1)
    if settings.box_format is None and 2 * resized[image].sum() > len(image):
        raise DataError(
            f"{settings.annotation_file}: {said}: were the images resized after they were annotated? Give each its own "
            f"size and boxes, or set {settings.section}.box_format where boxes count in the pixels of the files"
        )
    LOG.warning(
        "%s: %s; the pixels of the file count (an EXIF orientation turns images)", settings.section, said
    )
