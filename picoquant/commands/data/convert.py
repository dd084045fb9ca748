"""`picoquant data convert`: data sets of any format that can be read, as COCO."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from picoquant.commands.data.sources import SHORT, Sources
from picoquant.commands.data.written import put_into, recipe_lines, refuse_overwriting
from picoquant.data.dataset import Dataset
from picoquant.data.formats.load import load_dataset
from picoquant.data.formats.write_coco import coco_content, relative_names, write_coco
from picoquant.data.settings import DatasetSettings
from picoquant.errors import UserError
from picoquant.utils.progress import Progress


@dataclass(frozen=True)
class Converted:
    """One data set that was written: its section, JSON file, folder of images, and how much it holds."""

    section: str
    annotations: Path
    images_in: Path
    images: int
    boxes: int


def convert(sources: Sources, out: Path, images: str, force: bool) -> list[Converted]:
    """Write data sets as COCO: `annotations/instances_train.json` and images in `train/`, the same for val.

    Training images without objects are kept. What is trained on is written as training reads it; what is evaluated on
    with every box as it is, so that mAP is the same.

    Args:
        sources: the data sets.
        out: the folder; all of it is written aside first.
        images: `copy`, `link` (hard links, or symbolic ones to another disk), or `none`: names lead to where they are.
        force: replace files that are there.

    Raises: `DataError` for what cannot be read, `UserError` for a file that is there already.
    """
    loaded = {section: _load(settings) for section, settings in sources.settings.items()}
    names = {
        section: relative_names(dataset, sources.settings[section].image_folder)
        if images == "none"
        else _own_names(dataset, sources.settings[section])
        for section, dataset in loaded.items()
    }
    targets = [_json(out, section) for section in loaded]
    if images != "none":
        targets += [out / SHORT[section] / name for section in loaded for name in names[section]]
    read = [Path(record.path) for dataset in loaded.values() for record in dataset.records]
    read += [settings.annotation_file for settings in sources.settings.values()]
    refuse_overwriting(targets, force, read)
    with put_into(out) as work:
        for section, dataset in loaded.items():
            if images != "none":
                _place_images(dataset, work / SHORT[section], names[section], images == "link")
            write_coco(_json(work, section), coco_content(dataset, names[section]))
    return [
        Converted(
            section,
            _json(out, section),
            sources.settings[section].image_folder if images == "none" else out / SHORT[section],
            len(dataset),
            sum(len(record.boxes) for record in dataset.records),
        )
        for section, dataset in loaded.items()
    ]


def _load(settings: DatasetSettings) -> Dataset:
    training = settings.section == "TrainDataset"
    return load_dataset(
        replace(settings, allow_empty=True, empty_ratio=1.0) if training else settings, training
    )


def _json(folder: Path, section: str) -> Path:
    return folder / "annotations" / f"instances_{SHORT[section]}.json"


def _own_names(dataset: Dataset, settings: DatasetSettings) -> list[str]:
    """A name for each image below a new folder: as below its own, or without folders where it is not below that."""
    names, taken = [], set()
    for name in relative_names(dataset, settings.image_folder):
        if name.startswith("../"):
            name = name.rpartition("/")[2]
        stem, suffix = os.path.splitext(name)
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}{suffix}"
        taken.add(name)
        names.append(name)
    return names


def _place_images(dataset: Dataset, folder: Path, names: Sequence[str], link: bool) -> None:
    progress = Progress("convert", len(names), "image")
    try:
        for number, (record, name) in enumerate(zip(dataset.records, names), start=1):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = os.path.realpath(record.path)
            if link:
                _link(source, target)
            else:
                shutil.copyfile(source, target)
            progress.update(number)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is gone; run the same command again") from error
    finally:
        progress.close()


def _link(source: str, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that has no hard links
        os.symlink(source, target)


def as_json(converted: Sequence[Converted]) -> dict[str, Any]:
    """For programs: what was written, by `train` and `val`."""
    return {
        SHORT[one.section]: {
            "annotations": str(one.annotations),
            "images_in": str(one.images_in),
            "images": one.images,
            "boxes": one.boxes,
        }
        for one in converted
    }


def text_of(converted: Sequence[Converted]) -> str:
    """What was written, and how a recipe names it."""
    lines = [
        f"{one.annotations}: {one.images} images, {one.boxes} boxes, images in {one.images_in}"
        for one in converted
    ]
    sections = {
        one.section: {
            "dataset_dir": str(one.annotations.parent.parent),
            "image_dir": os.path.relpath(one.images_in, one.annotations.parent.parent),
            "anno_path": f"annotations/{one.annotations.name}",
        }
        for one in converted
    }
    return "\n".join([*lines, "", "in a recipe:", recipe_lines(sections)])
