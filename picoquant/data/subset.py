"""Some images of a data set: the first, drawn at random, with all classes alike, or those that a file lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from picoquant.data.dataset import Dataset
from picoquant.data.seeds import CHOICE, generator
from picoquant.errors import DataError, reason_of
from picoquant.utils.suggest import suggestion


def choose(dataset: Dataset, count: int | None, how: str, seed: int) -> Dataset:
    """So many images of a data set, in its order; all of them for None.

    Args:
        dataset: the images.
        count: how many.
        how: `first`; `random`: drawn, the same for one seed; `balanced`: drawn so that no class has many more
            objects than another: always an image with the class that has fewest so far.
        seed: of what is drawn.

    Raises: `DataError` when there are fewer images.
    """
    if count is None:
        return dataset
    if len(dataset) < count:
        raise DataError(
            f"Calibration.count is {count}, but {dataset.section} has {len(dataset)} usable images; lower it, "
            "or set it to null for all"
        )
    order = generator(seed, CHOICE).permutation(len(dataset)).tolist()
    if how == "first":
        chosen: Sequence[int] = range(count)
    elif how == "random":
        chosen = order[:count]
    else:
        chosen = _balanced(dataset, order, count)
    return replace(dataset, records=tuple(dataset.records[index] for index in sorted(chosen)))


def listed(dataset: Dataset, file: Path) -> Dataset:
    """The images that a text file names, one a line, in the order of the data set.

    Args:
        dataset: the images.
        file: names as in the annotations (or the end of the path); empty lines and `# …` are passed by.

    Raises: `DataError` naming the line that names no image.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"Calibration.files: {file} cannot be read{reason_of(error)}: name a text file with one image a line"
        ) from error
    by_name: dict[str, list[int]] = {}
    for index, record in enumerate(dataset.records):
        by_name.setdefault(Path(record.path).name, []).append(index)
    chosen: set[int] = set()
    for number, line in enumerate(lines, start=1):
        parts = Path(line.strip()).parts
        if not parts or line.lstrip().startswith("#"):
            continue
        found = [
            index
            for index in by_name.get(parts[-1], [])
            if Path(dataset.records[index].path).parts[-len(parts) :] == parts
        ]
        if not found:
            raise DataError(
                f"{file}, line {number}: {line.strip()} is no image of {dataset.section}"
                f"{suggestion(parts[-1], by_name)}"
            )
        chosen.update(found)
    if not chosen:
        raise DataError(f"{file} names no image; Calibration.files takes a text file with one image a line")
    return replace(dataset, records=tuple(dataset.records[index] for index in sorted(chosen)))


def _balanced(dataset: Dataset, order: Sequence[int], count: int) -> list[int]:
    """Always the first image, in this order, that has the class of which the fewest objects are chosen so far.

    Each class has a queue of its images, which is gone through once.
    """
    images, classes, numbers = _objects(dataset)
    starts = np.searchsorted(images, np.arange(len(dataset) + 1))
    place = np.argsort(order)  # of each image in the order
    by_class = np.lexsort((place[images], classes))
    ends = np.searchsorted(classes[by_class], np.arange(dataset.num_classes + 1))
    queues = [iter(images[by_class[low:high]].tolist()) for low, high in zip(ends[:-1], ends[1:])]
    without, left = iter(order), np.diff(ends)  # images left with each class
    taken, so_far = np.zeros(len(dataset), bool), np.zeros(dataset.num_classes, np.int64)
    chosen: list[int] = []
    while len(chosen) < count:
        queue = without  # only images without objects are left
        if left.any():
            queue = queues[int(np.argmin(np.where(left > 0, so_far, np.iinfo(np.int64).max)))]
        index = next(index for index in queue if not taken[index])
        taken[index] = True
        chosen.append(index)
        mine = slice(starts[index], starts[index + 1])
        left[classes[mine]] -= 1
        so_far[classes[mine]] += numbers[mine]
    return chosen


def _objects(dataset: Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images and classes that go together, and how many objects, each [P], by image; crowds are not counted."""
    records = dataset.records
    image = np.repeat(np.arange(len(records)), [len(record.classes) for record in records])
    crowd = np.concatenate([np.zeros(0, bool), *(record.is_crowd for record in records)])
    label = np.concatenate([np.zeros(0, np.int64), *(record.classes for record in records)])
    pairs, numbers = np.unique(np.stack([image, label])[:, ~crowd], axis=1, return_counts=True)
    return pairs[0], pairs[1], numbers
