"""Paired bootstrap of two models: confidence interval of their mAP's difference, and images that lost most.

`T` IoU thresholds, `D` detections of a class over all images, `N` images. Detections are matched once, by
pycocotools; a resampling only weights the matches of an image by how often the image was drawn (bootstrap
over images: Efron, 1979;
paired: both models are evaluated on the same draws).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from picoquant.evaluation.coco_metrics import counted_in_any_size

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
        image: `[D]`, index of the detection's image.
        hit, miss: `[T, D]` bool, true and false positives.
        objects: `[N]`, number of objects in each image.
    """

    image: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    objects: np.ndarray


def _matches(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], ids: list[int]
) -> list[_Class]:
    found = []
    for evaluation in counted_in_any_size(ground_truth, results, ids):
        params, matches = evaluation.params, evaluation.evalImgs
        places, count = np.searchsorted(ids, params.imgIds).tolist(), len(params.imgIds)
        for start in range(0, len(matches), max(count, 1)):
            of_class = dict(zip(places, matches[start : start + count]))
            found.append(_one_class(of_class, len(ids), len(params.iouThrs)))
    return found


def _one_class(images: Mapping[int, Mapping[str, Any] | None], total: int, thresholds: int) -> _Class:
    """A class of its matches by place of the image, ascending, of so many images."""
    objects = np.zeros(total, np.int64)
    number, scores, hit, miss = [], [], [], []
    for index, image in images.items():
        if image is None:
            continue
        objects[index] = np.count_nonzero(np.asarray(image["gtIgnore"]) == 0)
        counted = ~np.asarray(image["dtIgnore"], bool)
        matched = np.asarray(image["dtMatches"]) != 0
        scores.append(np.asarray(image["dtScores"], float))
        number.append(np.full(len(scores[-1]), index))
        hit.append((matched & counted).reshape(thresholds, -1))
        miss.append((~matched & counted).reshape(thresholds, -1))
    if not scores:
        nothing = np.zeros((thresholds, 0), bool)
        return _Class(np.zeros(0, np.int64), nothing, nothing, objects)
    order = np.argsort(-np.concatenate(scores), kind="mergesort")  # as pycocotools sorts
    return _Class(
        np.concatenate(number)[order],
        np.concatenate(hit, axis=1)[:, order],
        np.concatenate(miss, axis=1)[:, order],
        objects,
    )


def _mean_ap(classes: Sequence[_Class], weights: np.ndarray) -> float:
    """mAP if image `n` occurs `weights[n]` times; NaN without objects."""
    values = [value for value in (_ap(one, weights) for one in classes) if value is not None]
    return float(np.mean(values)) if values else float("nan")


_RECALLS = np.linspace(0.0, 1.0, 101)  # COCO's


def _ap(one: _Class, weights: np.ndarray) -> float | None:
    """AP of a class, the mean over all IoU thresholds; None without objects."""
    total = int(one.objects @ weights)
    if total == 0:
        return None
    weight = weights[one.image]
    drawn = weight > 0
    weight = weight[drawn]
    hits = np.cumsum(one.hit[:, drawn] * weight, axis=1)
    misses = np.cumsum(one.miss[:, drawn] * weight, axis=1)
    precision = hits / (hits + misses + np.spacing(1))
    # Precision at a recall is the highest one at that or any higher recall, as in pycocotools.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    precision = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
    indices = [np.searchsorted(row / total, _RECALLS, side="left") for row in hits]
    return float(np.mean([row[index] for row, index in zip(precision, indices)]))


def _by_image(ground_truth: Mapping[str, Any], matched: Sequence[list[_Class]], ids: list[int]) -> tuple:
    names = {image["id"]: str(image.get("file_name", image["id"])) for image in ground_truth["images"]}
    rows = [[_rows_by_image(one, len(ids)) for one in classes] for classes in matched]
    changes = []
    for number, image_id in enumerate(ids):
        scores = [
            _mean_ap(_of_image(classes, places, number), np.ones(1, np.int64))
            for classes, places in zip(matched, rows)
        ]
        if np.isfinite(scores).all():  # an image without objects has no mAP
            changes.append(ImageChange(image_id, names[image_id], *scores))
    return tuple(sorted(changes, key=lambda image: (image.change, image.image_id)))


def _rows_by_image(one: _Class, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Detections `[D]` sorted by their image, each image's best score first, and `[N + 1]` where an image's begin."""
    order = np.argsort(one.image, kind="stable")
    return order, np.searchsorted(one.image[order], np.arange(images + 1))


def _of_image(
    classes: Sequence[_Class], rows: Sequence[tuple[np.ndarray, np.ndarray]], number: int
) -> list[_Class]:
    selected = []
    for one, (order, starts) in zip(classes, rows):
        if one.objects[number]:
            mine = order[starts[number] : starts[number + 1]]
            objects = one.objects[number : number + 1]
            nothing = np.zeros(len(mine), np.int64)
            selected.append(_Class(nothing, one.hit[:, mine], one.miss[:, mine], objects))
    return selected
