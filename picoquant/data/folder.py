"""Images without annotations: to calibrate with, or to predict on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from picoquant.data.dataset import Dataset, Record
from picoquant.data.images import SUFFIXES
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError


def load_folder(settings: DatasetSettings) -> Dataset:
    """All images in a folder and those below it, in the order of their paths.

    They have no objects and no classes, so they can be neither trained nor evaluated on; width and
    height are 0, as no file is opened.

    Raises: `DataError` when the folder is missing or holds no image.
    """
    folder, section = settings.image_folder, settings.section
    if not folder.is_dir():
        raise DataError(f"no image folder {folder}; {section}.dataset_dir and {section}.image_dir name it")
    paths = sorted(path for path in folder.rglob("*") if _is_image(path))
    if settings.sample_num > 0:
        paths = paths[: settings.sample_num]
    if not paths:
        raise DataError(f"no image ({', '.join(SUFFIXES)}) in {folder}; {section}.image_dir names it")
    nothing = (np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))
    records = tuple(Record(number, str(path), 0, 0, *nothing) for number, path in enumerate(paths, start=1))
    return Dataset(records, (), (), section, format="folder")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()
