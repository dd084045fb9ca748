"""All images of a data set, some hundred at a time, several processes where that is worth their start.

What is in an image depends on no other, so that time and memory grow as the number of detections and objects does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from picoquant.evaluation.counting.matching import AREAS, Matched, Part, inside_of, matched, places_of
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.counting.weights import ObjectsOfImages
from picoquant.evaluation.results import SMALL, Results
from picoquant.utils.helpers.helpers import Helpers

_ROWS = 1 << 16  # detections and objects of a part, of whole images
_AT_ONCE = 32  # parts that are shared out
_RATE = 4e6  # detections and objects a second that a process matches, about

Columns = TypeVar("Columns", Objects, Results)


def match_images(
    objects: Objects,
    results: Results,
    image_ids: Iterable[int],
    categories: Sequence[int],
    areas: tuple[tuple[float, float], ...] = AREAS,
) -> tuple[Matched, np.ndarray]:
    """The matches in all images, and how many objects count, `[C, A]`.

    Args:
        objects, results: of these images, and maybe others, which are left out.
        image_ids: images to evaluate.
        categories: ids of the classes, ascending; what is of others is left out.
        areas: ranges of areas.
    """
    images, classes = np.array(sorted(set(image_ids)), np.int64), np.array(categories, np.int64)
    parts = parts_of(_by_image(objects), _by_image(results), images, classes, areas)
    found: list[Matched] = []
    work = [(len(part.found) + len(part.objects.area)) / _RATE for part in parts]
    few = sum(work) < SMALL
    with Helpers() as helpers:
        for start in range(0, len(parts), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            found += helpers.share(matched, parts[some], 0.0 if few else sum(work[some]))
    return Matched.joined(found), _count(objects, images, classes, areas)


def parts_of(
    objects: Objects,
    results: Results,
    images: np.ndarray,
    categories: np.ndarray,
    areas: tuple[tuple[float, float], ...],
) -> list[Part]:
    """The images, ascending, in parts of about `_ROWS` detections and objects; one part at least."""
    ends = sum(np.searchsorted(one.image_id, images, side="right") for one in (objects, results))
    _, firsts = np.unique(ends // _ROWS, return_index=True)
    bounds = [0, *firsts[1:].tolist(), len(images)]
    parts = []
    for start, stop in zip(bounds, bounds[1:]):
        here = images[start:stop]
        some = [_rows(one.image_id, here) for one in (results, objects)]
        parts.append(Part(here, start, categories, results.at(some[0]), objects.at(some[1]), areas))
    return parts


def _rows(image_id: np.ndarray, images: np.ndarray) -> slice:
    """What is in the images, and in those between them; `image_id` ascending."""
    if not len(images):
        return slice(0, 0)
    return slice(
        int(np.searchsorted(image_id, images[0])), int(np.searchsorted(image_id, images[-1], side="right"))
    )


def _by_image(columns: Columns) -> Columns:
    """The same by ascending id of the image; itself where it is."""
    ids = columns.image_id
    return columns if (ids[1:] >= ids[:-1]).all() else columns.at(np.argsort(ids, kind="stable"))


def _count(
    objects: Objects, images: np.ndarray, categories: np.ndarray, areas: tuple[tuple[float, float], ...]
) -> np.ndarray:
    _, here = places_of(objects.image_id, images)
    label, known = places_of(objects.category_id, categories)
    there = here & known & ~objects.is_crowd
    return np.array(
        [np.bincount(label[there & inside_of(objects.area, one)], minlength=len(categories)) for one in areas]
    ).T


def objects_of_images(
    objects: Objects, image_ids: Sequence[int], categories: Sequence[int]
) -> ObjectsOfImages:
    """How many objects of any size each image and class has; crowds are none.

    Args:
        objects: of these images, and maybe others.
        image_ids, categories: ascending.
    """
    image, here = places_of(objects.image_id, np.array(image_ids, np.int64))
    label, known = places_of(objects.category_id, np.array(categories, np.int64))
    rows = np.flatnonzero(here & known & ~objects.is_crowd & inside_of(objects.area, AREAS[0]))
    pairs, number = np.unique(image[rows] * len(categories) + label[rows], return_counts=True)
    classes = max(len(categories), 1)
    return ObjectsOfImages(pairs // classes, pairs % classes, number, len(categories))
