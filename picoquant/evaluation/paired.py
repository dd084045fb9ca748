"""Paired bootstrap of two models: confidence interval of their mAP's difference, and images that lost most.

`T` IoU thresholds, `D` detections of a class over all images, `H` of them that overlap an object, `N` images.
Detections are matched once; a resampling only weights the matches of an image by how often the image was drawn
(bootstrap over images: Efron, 1979; paired: both models are evaluated on the same draws).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from picoquant.evaluation.counting.curves import RECALLS, by_score
from picoquant.evaluation.counting.images import match_images, objects_in_images
from picoquant.evaluation.counting.matching import AREAS, IOUS, Matched, bit
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.results import Results

DRAWS, SEED = 1000, 0


@dataclass(frozen=True)
class ImageChange:
    """mAP of one image alone, 0 to 1, by each of two models."""

    image_id: int
    file_name: str
    first: float
    second: float

    @property
    def change(self) -> float:
        """Second minus first; negative if the second model is worse."""
        return self.second - self.first


@dataclass(frozen=True)
class Paired:
    """The second model's mAP minus the first's, with its confidence interval.

    Attributes:
        difference: the difference on the images themselves, without resampling.
        low, high: 2.5th and 97.5th percentile of the resampled differences: the 95 % confidence interval.
        draws: number of resamplings.
        images: every image with objects, the largest loss first.
    """

    difference: float
    low: float
    high: float
    draws: int
    images: tuple[ImageChange, ...]

    @property
    def told_apart(self) -> bool:
        """Whether the difference is significant: the interval does not contain 0."""
        return self.low > 0 or self.high < 0

    def as_dict(self, worst: int = 10) -> dict[str, Any]:
        """The comparison as JSON values, with at most `worst` images that lost, the largest loss first."""
        lost = [
            {**asdict(image), "change": image.change} for image in self.images[:worst] if image.change < 0
        ]
        return {
            "difference": self.difference,
            "interval_95": [self.low, self.high],
            "draws": self.draws,
            "told_apart": self.told_apart,
            "lost_most": lost,
        }


def paired(
    ground_truth: Mapping[str, Any],
    first: Sequence[Mapping[str, Any]],
    second: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int],
    draws: int = DRAWS,
    seed: int = SEED,
) -> Paired:
    """Compare the detections of two models on the same images.

    Args:
        ground_truth: content of a COCO annotation file.
        first, second: detections of each model, entries of COCO results files.
        image_ids: images to evaluate.
        draws: number of resamplings.
        seed: random seed of the resamplings.
    """
    ids = sorted(set(image_ids))
    matched = [_matches(ground_truth, results, ids) for results in (first, second)]
    difference, low, high = _resampled(
        lambda drawn: _mean_ap(matched[1], drawn) - _mean_ap(matched[0], drawn), len(ids), draws, seed
    )
    return Paired(difference, low, high, draws, _by_image(ground_truth, matched, ids))


def bootstrapped(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int],
    draws: int = DRAWS,
    seed: int = SEED,
) -> tuple[float, float, float]:
    """A model's mAP over objects of any size, and its 95 % confidence interval.

    Args:
        ground_truth: content of a COCO annotation file.
        results: detections, entries of a COCO results file.
        image_ids: images to evaluate.
        draws: number of resamplings.
        seed: random seed of the resamplings.

    Returns: the mAP, 0 to 1 (NaN without an object), and the interval's ends.
    """
    ids = sorted(set(image_ids))
    matched = _matches(ground_truth, results, ids)
    return _resampled(lambda drawn: _mean_ap(matched, drawn), len(ids), draws, seed)


def _resampled(
    measure: Callable[[np.ndarray], float], images: int, draws: int, seed: int
) -> tuple[float, float, float]:
    """A number of the images themselves, and the 2.5th and 97.5th percentile of it over resampled images.

    Args:
        measure: given how often each image occurs `[images]`, returns the number.
        images: how many there are.
        draws: number of resamplings.
        seed: of them.
    """
    random = np.random.default_rng(seed)
    chances = np.full(images, 1 / images)
    found = np.array(
        [measure(random.multinomial(images, chances)) for _ in range(draws)]
    )  # not all draws in memory
    found = found[np.isfinite(found)]  # a draw without any object has no mAP
    low, high = np.percentile(found, [2.5, 97.5]) if len(found) else (0.0, 0.0)
    return float(measure(np.ones(images, np.int64))), float(low), float(high)


@dataclass(frozen=True)
class _Class:
    """The detections of a class over all images, best score first.

    Attributes:
        image: `[D]`, index of the detection's image; inside: `[D]` int8, 1 if its area is one that COCO counts.
        held: `[H]`, ascending, places of those that overlap an object; where hit and changes are 0, there is no other.
        hit: `[T, H]` bool, true positives.
        changes: `[T, H]` int8, -1 for one that does not count though `inside`, 1 for the reverse.
        objects: indices of images with objects, ascending, and how many each has.
    """

    image: np.ndarray
    inside: np.ndarray
    held: np.ndarray
    hit: np.ndarray
    changes: np.ndarray
    objects: tuple[np.ndarray, np.ndarray]


def _matches(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], ids: list[int]
) -> list[_Class]:
    """Each class by ascending category id; `ids` ascending."""
    categories = sorted({entry["id"] for entry in ground_truth["categories"]})
    objects = Objects.of(ground_truth.get("annotations", []))
    found, _ = match_images(objects, Results.of(results), ids, categories, AREAS[:1])
    there = objects_in_images(objects, ids, categories)
    classes = []
    for start, stop, rows in by_score(found, len(categories)):
        bounds = np.searchsorted(found.label[rows], np.arange(start, stop + 1)).tolist()
        for number, low, high in zip(range(start, stop), bounds, bounds[1:]):
            classes.append(_one_class(found, rows[low:high], there[number]))
    return classes


def _one_class(found: Matched, rows: np.ndarray, objects: tuple[np.ndarray, np.ndarray]) -> _Class:
    """The class whose detections are at `rows`, best score first."""
    places = np.minimum(np.searchsorted(found.held, rows), max(len(found.held) - 1, 0))
    is_held = found.held[places] == rows if len(found.held) else np.zeros(len(rows), bool)
    held, inside = np.flatnonzero(is_held), found.inside[0, rows]
    some = places[held]
    hit, passed = (
        np.array([bit(bits[:, some], number) for number in range(len(IOUS))])
        for bits in (found.hit, found.passed)
    )
    changes = (hit & ~inside[held]).astype(np.int8) - (passed & inside[held])
    return _Class(found.image[rows], inside.astype(np.int8), held, hit, changes, objects)


def _mean_ap(classes: Sequence[_Class], weights: np.ndarray) -> float:
    """mAP if image `n` occurs `weights[n]` times; NaN without objects."""
    values = [value for value in (_ap(one, weights) for one in classes) if value is not None]
    return float(np.mean(values)) if values else float("nan")


def _ap(one: _Class, weights: np.ndarray) -> float | None:
    """AP of a class, the mean over all IoU thresholds; None without objects."""
    images, counts = one.objects
    total = int(counts @ weights[images])
    if total == 0:
        return None
    weight = weights[one.image]
    mine = weight[one.held]
    counted = np.cumsum(weight * one.inside)[one.held]
    values = np.zeros((len(one.hit), len(RECALLS)))
    for row, hit, changes in zip(values, one.hit, one.changes):
        drawn = np.flatnonzero(hit & (mine > 0))
        if not len(drawn):
            continue
        hits = np.cumsum(mine[drawn])
        # COCO's divisor has the small number, too.
        precision = hits / (counted[drawn] + np.cumsum(mine * changes)[drawn] + np.spacing(1))
        # Precision at a recall is the highest one at that or any higher recall, as in pycocotools.
        precision = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        row[:] = precision[np.searchsorted(hits / total, RECALLS, side="left")]
    return float(values.mean())


def _by_image(
    ground_truth: Mapping[str, Any], matched: Sequence[list[_Class]], ids: list[int]
) -> tuple[ImageChange, ...]:
    names = {image["id"]: str(image.get("file_name", image["id"])) for image in ground_truth["images"]}
    classes_of: dict[int, list[int]] = {}
    for place, one in enumerate(matched[0]):
        images, counts = one.objects
        for number in images[counts > 0].tolist():
            classes_of.setdefault(number, []).append(place)
    models = [[_ImagesOf(one) for one in classes] for classes in matched]
    changes = []
    for number, places in classes_of.items():  # an image without objects has no mAP
        alone = [[classes[place].only(number) for place in places] for classes in models]
        scores = [_mean_ap(classes, np.ones(1, np.int64)) for classes in alone]
        changes.append(ImageChange(ids[number], names[ids[number]], *scores))
    return tuple(sorted(changes, key=lambda image: (image.change, image.image_id)))


class _ImagesOf:
    """What a class has in one image after the other."""

    def __init__(self, one: _Class) -> None:
        self._class = one
        self._rows = np.argsort(one.image, kind="stable")
        self._held = np.argsort(one.image[one.held], kind="stable")
        self._image, self._held_image = one.image[self._rows], one.image[one.held][self._held]

    def only(self, number: int) -> _Class:
        """The class if there were no other image than that with this index."""
        one = self._class
        rows = self._rows[slice(*np.searchsorted(self._image, (number, number + 1)))]
        some = self._held[slice(*np.searchsorted(self._held_image, (number, number + 1)))]
        images, counts = one.objects
        place = np.searchsorted(images, number)
        return _Class(
            np.zeros(len(rows), np.int64),
            one.inside[rows],
            np.searchsorted(rows, one.held[some]),
            one.hit[:, some],
            one.changes[:, some],
            (np.zeros(1, np.int64), counts[place : place + 1]),
        )
