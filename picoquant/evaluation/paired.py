"""Paired bootstrap of two models: confidence interval of their mAP's difference, and images that lost most.

Detections are matched once; a resampling only weights the matches of an image by how often the image was drawn
(bootstrap over images: Efron, 1979; paired: both models are evaluated on the same draws).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from picoquant.evaluation.counting.images import match_images, objects_of_images
from picoquant.evaluation.counting.matching import AREAS
from picoquant.evaluation.counting.objects import Objects
from picoquant.evaluation.counting.weights import Weighted
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


def _matches(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], ids: list[int]
) -> Weighted:
    """The matches of all classes; `ids` ascending."""
    categories = sorted({entry["id"] for entry in ground_truth["categories"]})
    objects = Objects.of(ground_truth.get("annotations", []))
    found, _ = match_images(objects, Results.of(results), ids, categories, AREAS[:1])
    return Weighted(found, objects_of_images(objects, ids, categories))


def _mean_ap(found: Weighted, weights: np.ndarray) -> float:
    """mAP if image `n` occurs `weights[n]` times; NaN without objects."""
    values = found.aps(weights)
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _by_image(
    ground_truth: Mapping[str, Any], matched: Sequence[Weighted], ids: list[int]
) -> tuple[ImageChange, ...]:
    names = {image["id"]: str(image.get("file_name", image["id"])) for image in ground_truth["images"]}
    images, starts = np.unique(matched[0].objects.image, return_index=True)  # one without objects has no mAP
    bounds = [*starts.tolist(), len(matched[0].objects.image)]
    values = [found.aps_alone() for found in matched]
    changes = []
    for number, start, stop in zip(images.tolist(), bounds, bounds[1:]):
        scores = [float(one[start:stop].mean()) for one in values]
        changes.append(ImageChange(ids[number], names[ids[number]], *scores))
    return tuple(sorted(changes, key=lambda image: (image.change, image.image_id)))
