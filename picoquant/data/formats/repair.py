"""What all formats of annotations share: boxes clipped, images looked for, empty images chosen."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from picoquant.data.class_names import plain_name
from picoquant.data.dataset import Dataset, PackedRecords, Record
from picoquant.data.formats.files import FoundFiles, find_files, tell_renamed
from picoquant.data.formats.large.rows import every, largest
from picoquant.data.seeds import ORDER, generator
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

SMALLEST_SIDE = 1e-5  # pixels; below it a box counts as without area, as in PaddleDetection
_WORTH_COUNTING = 0.1  # pixels; a box farther outside than rounding explains
_NAMED = 5  # so many file names in one message


def no_annotations(path: Path, section: str) -> DataError:
    """The error for an annotation file that is not there."""
    return DataError(
        f"no annotation file {path}; {section}.dataset_dir, {section}.image_dir and "
        f"{section}.anno_path say where the data set is (--set {section}.dataset_dir=...); "
        "quickstart.yaml needs no data"
    )


class Tally:
    """What was repaired: how many of each kind, and the first."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def add(self, kind: str, chosen: np.ndarray, name: Callable[[int], str]) -> None:
        """Count objects [M] bool; `name` calls one by its place."""
        if chosen.any():
            self.count[kind] += int(chosen.sum())
            self._first.setdefault(kind, name(int(np.flatnonzero(chosen)[0])))

    def example(self, kind: str) -> str:
        """The first of a kind, for the end of a message."""
        return f"; the first is {self._first[kind]}" if kind in self._first else ""


def clip(
    boxes: np.ndarray, limits: np.ndarray, tally: Tally, name: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [G, 4] clipped to 0 and `limits` ([G, 4]: width, height, width, height of the image),
    and [G] bool: which of them have area left.

    How many were clipped and dropped is added to `tally`, with the first of each.
    """
    clipped = np.clip(boxes, 0, limits)
    solid = every(clipped[:, 2:] - clipped[:, :2] > SMALLEST_SIDE)
    moved = largest(np.abs(clipped - boxes)) > _WORTH_COUNTING
    tally.add("dropped", ~solid, name)
    tally.add("clipped", moved & solid, name)
    return clipped, solid


def tell_crowds(
    section: str, crowds: np.ndarray, name: Callable[[int], str], what: str, untrained: bool = True
) -> None:
    """Say how many objects [M] bool are crowds, which evaluation passes over; a warning where most are.

    Args:
        section: of the data set.
        crowds: which are.
        name: what messages call an object, by its place.
        what: what messages call a crowd.
        untrained: whether they are no targets of training either.
    """
    if crowds.any():
        level = logging.WARNING if 2 * crowds.sum() > len(crowds) else logging.INFO
        LOG.log(
            level,
            "%s: %d of %d objects are %s, such as %s: %sneither found nor missed in evaluation",
            section,
            crowds.sum(),
            len(crowds),
            what,
            name(int(np.flatnonzero(crowds)[0])),
            "not trained on, " if untrained else "",
        )


# Factors of a hash of six columns.
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F,
        0xE7037ED1A0B428DB)  # fmt: skip


def tell_written_twice(
    section: str, image: np.ndarray, classes: np.ndarray, boxes: np.ndarray, name: Callable[[int], str]
) -> None:
    """Say how many boxes [M, 4] stand in the annotations more than once: same image [M], class [M] and numbers."""
    columns = [np.ascontiguousarray(column, np.float64) for column in (image, classes, *boxes.T)]
    keys = np.zeros(len(boxes), np.uint64)
    with np.errstate(over="ignore"):
        for column, odd in zip(columns, _ODD):
            keys += column.view(np.uint64) * np.uint64(odd)
    ordered = np.sort(keys)
    shared = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(shared):  # and so no two are the same
        return
    rows = np.flatnonzero(np.isin(keys, shared))
    order = rows[np.argsort(keys[rows], kind="stable")]
    same = np.logical_and.reduce([column[order[1:]] == column[order[:-1]] for column in columns])
    if same.any():
        LOG.warning(
            "%s: %d of %d boxes are written more than once, such as %s: each counts, in training and in evaluation; "
            "take them out",
            section,
            same.sum(),
            len(boxes),
            name(int(order[1:][same].min())),
        )


def find_images(
    settings: DatasetSettings, names: list[str], training: bool, problems: list[DataError] | None = None
) -> FoundFiles:
    """The image files that annotations name, relative to the image folder or absolute; see `find_files`.

    Raises: `DataError` naming the first that is missing and how many, but for under 1 % in training; with a list of
        `problems` it is added to that.
    """
    folder, section = settings.image_folder, settings.section
    if not folder.is_dir():
        refuse(f"no image folder {folder}; {section}.dataset_dir and {section}.image_dir name it", problems)
        return FoundFiles([str(folder / name) for name in names], frozenset(range(len(names))), ())
    found = find_files(folder, names)
    require_images(found, section, training, problems)
    tell_renamed(found, names, section, "images")
    _tell_repeated(found, section)
    return found


def _tell_repeated(images: FoundFiles, section: str) -> None:
    """Say how many images are listed more than once."""
    if not images.missing and len({path.rpartition(os.sep)[2] for path in images.paths}) == len(images.paths):
        return  # whatever their folders
    paths = [os.path.normpath(path) for place, path in enumerate(images.paths) if place not in images.missing]
    counts = Counter(paths)
    if len(counts) < len(paths):
        first, times = next((path, count) for path, count in counts.items() if count > 1)
        LOG.warning(
            "%s: %d images are listed more than once, such as %s (%d times): each time it counts as an image of its "
            "own, with the objects of that entry alone",
            section,
            sum(count > 1 for count in counts.values()),
            first,
            times,
        )


def require_images(
    images: FoundFiles, section: str, training: bool, problems: list[DataError] | None = None
) -> None:
    """Raises: `DataError` naming the first image that is missing and how many, but for under 1 % in training."""
    missing, total = sorted(images.missing), len(images.paths)
    if missing and (not training or too_many(len(missing), total)):
        refuse(
            f"{len(missing)} of {total} images of {section} are missing, the first is {images.paths[missing[0]]}; "
            f"correct {section}.image_dir or {section}.dataset_dir, or put the files there",
            problems,
        )


def tell_unannotated(section: str, images: Sequence[str], annotated: Sequence[str], why: str) -> None:
    """Say how many of the images in a folder have no annotation file, and are so left out, with the first."""
    left = sorted(set(images) - set(annotated))
    if left:
        LOG.warning(
            "%s: %d of %d images have no annotation file and are left out, such as %s (%s)",
            section,
            len(left),
            len(images),
            left[0],
            why,
        )


def require_own_images(images: FoundFiles, files: Sequence[str]) -> None:
    """Raises: `DataError` naming two annotation files of one image."""
    first: dict[str, str] = {}
    for path, file in zip(images.paths, files):
        if path in first:
            raise DataError(
                f"{first[path]} and {file} both annotate {path}: remove one, or correct its image's name"
            )
        first[path] = file


def refuse(text: str, problems: list[DataError] | None) -> None:
    """Raise a `DataError`, or add it to a list of problems where there is one."""
    if problems is None:
        raise DataError(text)
    problems.append(DataError(text))


def too_many(bad: int, total: int) -> bool:
    """Whether so many images are unusable that training must stop: 1 % or more."""
    return bad * 100 >= max(total, 1)


def packed(
    ids: Sequence[int],
    paths: Sequence[str],
    sizes: np.ndarray,
    owner: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    is_crowd: np.ndarray,
) -> PackedRecords:
    """The records of N images of these ids, paths and sizes [N, 2], and of their M objects.

    Args:
        ids, paths, sizes: of the images.
        owner: [M] the image of each object, ascending; boxes, classes, is_crowd: as a record has them.
    """
    width, height = sizes.astype(np.int64).T
    starts = np.searchsorted(owner, np.arange(len(paths) + 1))
    return PackedRecords(
        np.array(ids, np.int64), tuple(paths), width, height, starts, boxes, classes, is_crowd
    )


def choose(
    settings: DatasetSettings,
    records: PackedRecords,
    missing: Collection[int],
    training: bool,
    problems: list[DataError] | None = None,
) -> tuple[Sequence[Record], int, int]:
    """The records to use, in the order of their ids, and how many without objects are left out.

    Args:
        settings: of the data set.
        records: of all images, in the order of their ids.
        missing: places of those that are not there.
        training: whether they are trained on.
        problems: see `load_dataset`.

    Returns: the records; how many without objects are left out; and how many of these hold crowds, 0 where some
        without objects are kept.

    Raises: `DataError` when no image has an object; with a list of `problems` it is added to that, unless they
        explain it.
    """
    there = np.ones(len(records), bool)
    there[list(missing)] = False
    with_objects = records.have(~records.is_crowd)
    full, empty = np.flatnonzero(there & with_objects), np.flatnonzero(there & ~with_objects)
    if not len(full) and not problems:
        refuse(
            f"no image of {settings.annotation_file} has an object; {settings.section}.anno_path "
            "must name annotations with boxes",
            problems,
        )
    allowed = settings.allow_empty if settings.allow_empty is not None else not training
    kept = empty if allowed else empty[:0]
    ratio = settings.empty_ratio
    if training and 0 <= ratio < 1:
        most = min(int(len(full) * ratio / (1 - ratio)), len(kept))
        kept = kept[generator(0, ORDER).permutation(len(kept))[:most]]
    left_out = len(empty) - len(kept)
    crowds = 0 if len(kept) else int(records.have(records.is_crowd)[empty].sum())
    if left_out:
        _tell_empty(settings, left_out, len(kept), crowds, allowed)
    chosen = np.sort(np.concatenate([full, kept]))
    if settings.sample_num > 0:
        chosen = chosen[: settings.sample_num]
    return records if len(chosen) == len(records) else records.at(chosen), left_out, crowds


def _tell_empty(settings: DatasetSettings, left_out: int, kept: int, crowds: int, allowed: bool) -> None:
    """Log how many images without objects are left out, and which setting would keep them."""
    section = settings.section
    LOG.info(
        "%s: %d images without objects left out%s (%s)",
        section,
        left_out,
        f", {crowds} of them with crowds alone" if crowds else "",
        f"{section}.empty_ratio={settings.empty_ratio:g} keeps {kept}"
        if allowed
        else f"{section}.allow_empty=true keeps them",
    )


def _tell_names_alike(dataset: Dataset) -> None:
    """Say which classes have the same name but for case and spaces."""
    by_form: dict[str, list[str]] = {}
    for name in dataset.class_names:
        by_form.setdefault(plain_name(name), []).append(name)
    alike = [names for names in by_form.values() if len(names) > 1]
    if alike:
        LOG.warning(
            "%s: %s are classes of their own: write the name in one way where they are one",
            dataset.section,
            "; ".join(" and ".join(map(repr, names)) for names in alike[:_NAMED]),
        )


def report(dataset: Dataset, tally: Tally, refused: bool = False) -> None:
    """Log what was loaded and what was repaired; nothing of missing images where a problem says that already."""
    repairs, section = dataset.repairs, dataset.section
    LOG.info(
        "%s: %d images, %d boxes, %d classes", section, len(dataset), dataset.num_boxes, dataset.num_classes
    )
    _tell_names_alike(dataset)
    if repairs.clipped_boxes:
        first = tally.example("clipped")
        LOG.warning("%s: %d boxes outside their image, clipped%s", section, repairs.clipped_boxes, first)
    if repairs.dropped_boxes:
        first = tally.example("dropped")
        LOG.warning("%s: %d boxes without area, dropped%s", section, repairs.dropped_boxes, first)
    if repairs.missing and not refused:
        names = ", ".join(repairs.missing[:_NAMED])
        more = ", ..." if len(repairs.missing) > _NAMED else ""
        LOG.warning(
            "%s: going on without %d missing images: %s%s",
            section,
            len(repairs.missing),
            names,
            more,
        )
