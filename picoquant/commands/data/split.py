"""`picoquant data split`: one data set into train and val, and test where asked for, as COCO files."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.commands.data.sources import Sources
from picoquant.commands.data.written import put_into, recipe_lines, refuse_overwriting
from picoquant.data.class_names import some_names
from picoquant.data.dataset import Dataset
from picoquant.data.formats.load import load_dataset
from picoquant.data.formats.write_coco import coco_content, relative_names, write_coco
from picoquant.data.inspection.copies import same_content
from picoquant.data.split import groups_by_name, stratified, units
from picoquant.errors import ConfigError, DataError
from picoquant.utils.tables import columns

LOG = logging.getLogger("picoquant")

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """What was written.

    Attributes:
        parts: `train`, `val` and, where asked for, `test`.
        files: the COCO file of each part.
        image_folder: what the names in them count from.
        names: of the images of each part.
        units: groups of images that stayed together, in each part.
        classes: names of the classes.
        boxes: [parts, classes] boxes.
    """

    parts: tuple[str, ...]
    files: tuple[Path, ...]
    image_folder: Path
    names: tuple[tuple[str, ...], ...]
    units: tuple[int, ...]
    classes: tuple[str, ...]
    boxes: np.ndarray


def split(
    sources: Sources, out: Path, val: float, test: float, seed: int, group_by: str | None, force: bool
) -> Split:
    """Split a data set by class and write `instances_train.json`, `instances_val.json` and `instances_test.json`.

    Images with the same content stay together, and those that `group_by` finds to belong together.

    Args:
        sources: the data set, which must be one.
        out: the folder of the new files; images stay where they are.
        val, test: parts of all images and of each class, 0 to 1; `test` 0 writes none.
        seed: the same one splits in the same way.
        group_by: regular expression for file names, see `groups_by_name`.
        force: replace files that are there.

    Raises: `ConfigError` for parts or an expression that cannot be, `DataError` for too few images, `UserError` for a
        file that is there already.
    """
    shares = _shares(val, test)
    settings = sources.only("split")
    parts = PARTS[: len(shares)]
    files = tuple(out / f"instances_{part}.json" for part in parts)
    refuse_overwriting(files, force, [settings.annotation_file])
    counted = load_dataset(replace(settings, allow_empty=True), False)
    trained = counted
    if (
        counted.annotations is None
    ):  # VOC's objects marked difficult are trained on, and not counted in evaluation
        trained = load_dataset(replace(settings, allow_empty=True, empty_ratio=1.0), True)
    names = relative_names(counted, settings.image_folder)
    unit = units(len(names), _together(counted, names, group_by))
    if unit.max() + 1 < len(parts):
        raise DataError(
            f"{settings.annotation_file}: {len(names)} images in {unit.max() + 1} groups that stay together are too "
            f"few for {', '.join(parts)}"
        )
    objects = _objects(counted)
    labels = np.zeros((unit.max() + 1, objects.shape[1]), np.int64)
    np.add.at(labels, unit, objects)
    part_of_unit = stratified(labels, np.bincount(unit), shares, seed)
    part = part_of_unit[unit]
    empty = [name for place, name in enumerate(parts) if not (part == place).any()]
    if empty:
        raise DataError(
            f"{settings.annotation_file}: no image is left for {', '.join(empty)}; use a greater part for it, or "
            "smaller groups"
        )
    with put_into(out) as work:
        for place, file in enumerate(files):
            chosen = _chosen(trained if parts[place] == "train" else counted, part == place)
            mine = [name for name, own in zip(names, part.tolist()) if own == place]
            write_coco(work / file.name, coco_content(chosen, mine))
    made = Split(
        parts,
        files,
        settings.image_folder,
        tuple(
            tuple(name for name, own in zip(names, part.tolist()) if own == place)
            for place in range(len(parts))
        ),
        tuple(np.bincount(part_of_unit, minlength=len(parts)).tolist()),
        counted.class_names,
        np.array([objects[part == place].sum(axis=0) for place in range(len(parts))]),
    )
    _tell_absent(made)
    return made


def _shares(val: float, test: float) -> list[float]:
    if not (0 < val < 1 and 0 <= test < 1 and val + test < 1):
        raise ConfigError(
            f"--val {val:g} --test {test:g}: both are parts between 0 and 1, and train needs the rest"
        )
    return [1 - val - test, val, *([test] if test else [])]


def _together(dataset: Dataset, names: Sequence[str], group_by: str | None) -> list[list[int]]:
    """Groups of images that stay together, as places."""
    groups = same_content([record.path for record in dataset.records])
    if groups:
        LOG.info(
            "%d images have the content of another one and stay with it", sum(map(len, groups)) - len(groups)
        )
    if group_by is None:
        return groups
    named, alone = groups_by_name(names, group_by)
    if alone:
        LOG.warning(
            "--group-by %s: not found in %d of %d file names, such as %s: each is a group of its own",
            group_by,
            len(alone),
            len(names),
            names[alone[0]],
        )
    return [*groups, *named]


def _objects(dataset: Dataset) -> np.ndarray:
    """[images, classes] objects that are no crowds."""
    rows = [
        np.bincount(record.classes[~record.is_crowd], minlength=dataset.num_classes)
        for record in dataset.records
    ]
    return np.array(rows, np.int64).reshape(len(rows), dataset.num_classes)


def _chosen(dataset: Dataset, chosen: np.ndarray) -> Dataset:
    return replace(dataset, records=tuple(record for record, own in zip(dataset.records, chosen) if own))


def _tell_absent(made: Split) -> None:
    for part, boxes in zip(made.parts, made.boxes):
        absent = [
            name
            for name, mine, every in zip(made.classes, boxes, made.boxes.sum(axis=0))
            if every and not mine
        ]
        if absent:
            LOG.warning("%s has no box of %d classes: %s", part, len(absent), some_names(absent))


def as_json(made: Split, with_names: bool = True) -> dict[str, Any]:
    """For programs: files, images and boxes of each class, by part."""
    return {
        part: {
            "annotations": str(made.files[place]),
            "images": len(made.names[place]),
            "groups": made.units[place],
            "boxes": int(made.boxes[place].sum()),
            "classes": dict(zip(made.classes, made.boxes[place].tolist())),
            **({"names": list(made.names[place])} if with_names else {}),
        }
        for place, part in enumerate(made.parts)
    }


def text_of(made: Split) -> str:
    """Images and boxes of each class in each part, with the part of all that this is, and how a recipe names it."""
    images = np.array([len(names) for names in made.names])
    rows = [("images", images), ("groups", np.array(made.units)), ("boxes", made.boxes.sum(axis=1))]
    rows += [(f"  {name}", made.boxes[:, place]) for place, name in enumerate(made.classes)]
    table = columns([["", *made.parts], *([name, *_with_share(counts)] for name, counts in rows)])
    sections = {
        section: {
            "dataset_dir": str(made.image_folder),
            "image_dir": "",
            "anno_path": os.path.abspath(file),
        }
        for section, file in zip(("TrainDataset", "EvalDataset"), made.files)
    }
    written = "\n".join(f"written: {file}" for file in made.files)
    return "\n\n".join([table, written, f"in a recipe:\n{recipe_lines(sections)}"])


def _with_share(counts: np.ndarray) -> list[str]:
    total = counts.sum()
    return [f"{count} ({count / total:.1%})" if total else f"{count}" for count in counts.tolist()]
