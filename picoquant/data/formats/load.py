"""Load a data set, whatever its format."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from picoquant.data.collector import collector_off
from picoquant.data.dataset import Dataset, Record
from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.coco_file import peek_categories
from picoquant.data.formats.files import files_below, read_label_list
from picoquant.data.formats.labelme import given_names, load_labelme
from picoquant.data.formats.labelme import label_files as labelme_files
from picoquant.data.formats.voc.load import label_files as voc_files
from picoquant.data.formats.voc.load import load_voc
from picoquant.data.formats.yolo.load import load_yolo, yolo_class_names, yolo_files
from picoquant.data.images import SUFFIXES
from picoquant.data.settings import DatasetSettings
from picoquant.errors import ConfigError, DataError


def load_dataset(
    settings: DatasetSettings, training: bool, problems: list[DataError] | None = None
) -> Dataset:
    """Load the data set that the settings describe.

    Args:
        settings: where it is, and its format.
        training: whether it is trained on (images without objects are then left out by default).
        problems: where a list is passed, what makes a data set useless but leaves something to look at (image files
            that are missing, no object at all) is added to it instead of being raised.

    Raises: `DataError` naming file and key; `ConfigError` for a format that holds no annotations.
    """
    loaders = {"coco": load_coco, "voc": load_voc, "yolo": load_yolo, "labelme": load_labelme}
    if settings.format not in loaders:
        raise ConfigError(
            f"{settings.section}: a data set of format {settings.format} cannot be trained or evaluated on; "
            f"known: {', '.join(loaders)}"
        )
    with collector_off():
        return loaders[settings.format](settings, training, problems)


def class_names(settings: DatasetSettings) -> tuple[str, ...] | None:
    """The names of a data set's classes, in their order, without reading its annotations.

    Returns: None where they cannot be told so, or the files are not there.
    """
    if settings.format == "yolo":
        return yolo_class_names(settings)
    if settings.format == "labelme":
        return None if settings.label_file and not settings.label_file.is_file() else given_names(settings)
    if settings.format == "voc":
        path = settings.label_file
        if settings.classes or path is None or not path.is_file():
            return settings.classes
        return read_label_list(path, settings.section)
    if settings.format == "coco" and settings.annotation_file.is_file():
        found = peek_categories(settings.annotation_file)
        return None if found is None else tuple(name for _, name in found)
    return None


def files_of(settings: DatasetSettings) -> tuple[list[Path], list[Path]]:
    """The files that a data set's annotations are in, and its images; what is not there is left out.

    Raises: `DataError` when annotations in many files cannot be found.
    """
    images = None
    if settings.format == "yolo":
        annotations, images = yolo_files(settings)
    elif settings.format == "labelme":
        annotations = labelme_files(settings)
    elif settings.format == "voc":
        annotations = voc_files(settings)
    else:
        annotations = [settings.annotation_file]
    if images is None:
        images = sorted(map(Path, files_below(settings.image_folder, SUFFIXES)))
    if settings.label_file is not None:
        annotations = [*annotations, settings.label_file]
    return [path for path in annotations if path.is_file()], images


def load_folder(settings: DatasetSettings) -> Dataset:
    """All images in a folder and those below it, in the order of their paths.

    They have no objects and no classes, so they can be neither trained nor evaluated on; width and
    height are 0, as no file is opened.

    Raises: `DataError` when the folder is missing or holds no image.
    """
    folder, section = settings.image_folder, settings.section
    option = section.startswith("--")  # of the command line, in place of a section
    if not folder.is_dir():
        keys = section if option else f"{section}.dataset_dir and {section}.image_dir"
        raise DataError(f"no image folder {folder}; {keys} must name one")
    paths = sorted(map(Path, files_below(folder, SUFFIXES)))
    if settings.sample_num > 0:
        paths = paths[: settings.sample_num]
    if not paths:
        key = section if option else f"{section}.image_dir"
        raise DataError(
            f"no image ({', '.join(SUFFIXES)}) in {folder} or below it; {key} must name a folder with some"
        )
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
    records = tuple(Record(number, str(path), 0, 0, *nothing) for number, path in enumerate(paths, start=1))
    return Dataset(records, (), (), section, format="folder")
