"""Which detections find an object, as COCO matches them: within an image and a class, best score first.

A detection takes, of the objects that are not taken yet, the one with the largest IoU of at least the threshold; one
that is to be ignored (a crowd, or outside the range of areas) only where there is no other. Crowds are taken any number
of times. Source: pycocotools, `COCOeval.evaluateImg`; of equal IoUs the later object counts, as there.

`A` ranges of areas, `T` IoU thresholds, `D` detections, `G` objects, `H` detections that overlap some object of their
class enough for the lowest threshold. Only these are matched one after the other; in all images and classes at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.results import Results

MAX_DETECTIONS = 100  # of an image and a class, as for mAP
IOUS = np.linspace(0.5, 0.95, 10)
AREAS = ((0.0, 1e5**2), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e5**2))  # all, small, medium, large

_PAIRS = 1 << 17  # of a detection and an object that are compared at once: some 20 MB


@dataclass(frozen=True)
class Part:
    """Some images with what is in them.

    Attributes:
        images: ids of those that count, ascending; what is in others is left out.
        first: place of the first of them among all.
        categories: ids of the classes, ascending; detections and objects of others are left out.
        found, objects: the detections and the objects, in their order.
        areas: ranges of areas, smallest and largest that count.
    """

    images: np.ndarray
    first: int
    categories: np.ndarray
    found: Results
    objects: Objects
    areas: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Matched:
    """Detections by image, class and falling score, at most `MAX_DETECTIONS` of an image and a class.

    Attributes:
        label: `[D]`, place of the class among all; image: `[D]` int32, place of the image.
        scores: `[D]`.
        rank: `[D]` uint8, 0 for the best of its image and class.
        inside: `[A, D]` bool, whether its area is in the range.
        held: `[H]`, ascending places in `D`.
        hit, passed: `[A * T / 8, H]` uint8, bits (see `bit`): whether a detection finds an object that counts, or
            one that is to be ignored.
    """

    label: np.ndarray
    image: np.ndarray
    scores: np.ndarray
    rank: np.ndarray
    inside: np.ndarray
    held: np.ndarray
    hit: np.ndarray
    passed: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Matched]) -> Matched:
        """The detections of all parts, one behind the other."""
        starts = np.cumsum([0, *(len(part.label) for part in parts)])
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts], axis=-1)
            for name in ("label", "image", "scores", "rank", "inside", "hit", "passed")
        }
        held = np.concatenate([part.held + start for part, start in zip(parts, starts)])
        return cls(**columns, held=held)


def bit(bits: np.ndarray, number: int) -> np.ndarray:
    """`[H]` bool of `hit` or `passed` of a `Matched`; number: `T` times the range of areas, and the threshold."""
    return (bits[number // 8] >> np.uint8(7 - number % 8) & np.uint8(1)).astype(bool)


def matched(parts: Sequence[Part]) -> list[Matched]:
    """The matches of each part."""
    return [_matched(part) for part in parts]


def _matched(part: Part) -> Matched:
    classes = len(part.categories)
    pair, rows = _pairs(part, part.found.image_id, part.found.category_id)
    order = np.lexsort((-part.found.scores[rows], pair))
    pair, rows = pair[order], rows[order]
    rank = _places(pair)
    few = rank < MAX_DETECTIONS
    pair, rows, rank = pair[few], rows[few], rank[few]
    boxes = part.found.boxes[rows]
    area = boxes[:, 2] * boxes[:, 3]

    objects_pair, objects_rows = _pairs(part, part.objects.image_id, part.objects.category_id)
    order = np.argsort(objects_pair, kind="stable")
    objects_pair, objects = objects_pair[order], part.objects.at(objects_rows[order])
    first = np.searchsorted(objects_pair, pair)
    counts = np.searchsorted(objects_pair, pair, side="right") - first
    counts_here = np.array([inside_of(objects.area, one) & ~objects.is_crowd for one in part.areas])
    held: list[np.ndarray] = []
    hit: list[np.ndarray] = []
    passed: list[np.ndarray] = []
    for some in _pieces(pair, counts):
        edges = _edges(some, first, counts, boxes, objects)
        if len(edges.overlap):
            which, *outcome = _greedy(edges, pair, counts_here, objects.is_crowd)
            held.append(which)
            for into, bits in zip((hit, passed), outcome):
                into.append(np.packbits(bits.reshape(-1, len(which)), axis=0))
    nothing = np.zeros((-(-len(part.areas) * len(IOUS) // 8), 0), np.uint8)
    return Matched(
        (pair % max(classes, 1)).astype(np.min_scalar_type(classes)),
        (pair // max(classes, 1) + part.first).astype(np.int32),
        part.found.scores[rows],
        rank.astype(np.uint8),
        np.array([inside_of(area, one) for one in part.areas]),
        np.concatenate([np.zeros(0, np.int64), *held]),
        np.concatenate([nothing, *hit], axis=1),
        np.concatenate([nothing, *passed], axis=1),
    )


def _pairs(part: Part, image_id: np.ndarray, category_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for the image and the class of each entry that counts, and the places of these."""
    image, here = places_of(image_id, part.images)
    label, known = places_of(category_id, part.categories)
    rows = np.flatnonzero(here & known)
    return image[rows] * len(part.categories) + label[rows], rows


def places_of(ids: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of ids among others, ascending, and whether they are there."""
    if not len(among):
        return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
    places = np.minimum(np.searchsorted(among, ids), len(among) - 1)
    return places, among[places] == ids


def inside_of(area: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """`[D]` bool, whether areas are in a range."""
    return ~((area < limits[0]) | (area > limits[1]))


def _places(numbers: np.ndarray) -> np.ndarray:
    """Of each number its place among its equals, which stand together."""
    starts = _starts(numbers)
    lengths = np.diff(starts, append=len(numbers))
    return np.arange(len(numbers)) - np.repeat(starts, lengths)


def _starts(numbers: np.ndarray) -> np.ndarray:
    """Places at which another number begins."""
    changes = np.ones(len(numbers), bool)
    changes[1:] = numbers[1:] != numbers[:-1]
    return np.flatnonzero(changes)


def _pieces(pair: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Detections with objects in their image and class, some images and classes at a time, so that `_PAIRS` holds, but
    one at least.

    Args:
        pair: `[D]` of image and class, ascending.
        counts: `[D]`, objects of these.
    """
    rows = np.flatnonzero(counts)
    before = np.cumsum(counts[rows]) - counts[rows]
    starts = _starts(pair[rows])
    piece = np.repeat(before[starts] // _PAIRS, np.diff(starts, append=len(rows)))
    return np.split(rows, _starts(piece)[1:])


@dataclass(frozen=True)
class _Edges:
    """Detections and objects that overlap enough, by detection.

    Attributes:
        row, number: `[E]`, places of the detection and of the object; overlap: `[E]`, their IoU.
    """

    row: np.ndarray
    number: np.ndarray
    overlap: np.ndarray


def _edges(
    rows: np.ndarray, first: np.ndarray, counts: np.ndarray, boxes: np.ndarray, objects: Objects
) -> _Edges:
    """Of the detections `rows` with the `counts[row]` objects from `first[row]` on."""
    times = counts[rows]
    row = np.repeat(rows, times)
    number = np.repeat(first[rows] - np.cumsum(times) + times, times) + np.arange(len(row))
    x, y, width, height = boxes[row].T
    left, top, wide, high = objects.boxes[number].T
    across = np.minimum(x + width, left + wide) - np.maximum(x, left)
    down = np.minimum(y + height, top + high) - np.maximum(y, top)
    shared = across * down
    union = np.where(objects.is_crowd[number], width * height, width * height + wide * high - shared)
    apart = (across <= 0) | (down <= 0)
    overlap = np.divide(shared, union, out=np.zeros_like(shared), where=~apart)
    near = np.flatnonzero(overlap >= IOUS[0])
    return _Edges(row[near], number[near], overlap[near])


def _greedy(
    edges: _Edges, pair: np.ndarray, counted: np.ndarray, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places `[H]` of the detections with edges, and `hit` and `passed` of these, `[A, T, H]` bool.

    The first of every image and class are matched together, then the second ones, and so on.

    Args:
        edges: of whole images and classes.
        pair: `[D]` of image and class, ascending.
        counted: `[A, G]`, objects that are not to be ignored.
        crowd: `[G]` bool.
    """
    begin = _starts(edges.row)
    held = edges.row[begin]
    turn = _places(pair[held])
    of_edge = np.repeat(np.arange(len(held)), np.diff(begin, append=len(edges.row)))
    order = np.lexsort((edges.number, edges.overlap, of_edge, turn[of_edge]))
    of_edge, overlap = of_edge[order], edges.overlap[order]
    lowest = edges.number.min()
    number = edges.number[order] - lowest
    counted, crowd = counted[:, lowest : lowest + number.max() + 1], crowd[lowest : lowest + number.max() + 1]
    enough = overlap >= IOUS[:, None]
    taken = np.zeros((len(counted), len(IOUS), len(crowd)), bool)
    hit = np.zeros((len(counted), len(IOUS), len(held)), bool)
    passed = np.zeros_like(hit)
    bounds = np.searchsorted(turn[of_edge], np.arange(turn.max() + 2))
    for start, stop in zip(bounds, bounds[1:]):
        here, objects = of_edge[start:stop], number[start:stop]
        groups, many = _starts(here), len(here)
        # The last of a detection's edges that are free is the best: by IoU, and those that count before the others.
        value = (np.arange(many) + many * counted[:, objects]).astype(np.int32)
        free = enough[:, start:stop] & ~taken[:, :, objects]
        best = np.maximum.reduceat(np.where(free, value[:, None], -1), groups, axis=2)
        hit[:, :, here[groups]] = best >= many
        passed[:, :, here[groups]] = (best >= 0) & (best < many)
        chosen = objects[best % many]
        area, threshold, place = np.nonzero((best >= 0) & ~crowd[chosen])
        taken[area, threshold, chosen[area, threshold, place]] = True
    return held, hit, passed
