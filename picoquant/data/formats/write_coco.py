"""A data set as COCO's JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from picoquant.data.dataset import Dataset, annotations_of
from picoquant.storage.files import whole_file


def coco_content(dataset: Dataset, names: Sequence[str]) -> dict[str, Any]:
    """What a COCO file says of a data set.

    Of a data set that was read to evaluate on nothing is clipped or left out, so that mAP is the same; of one that was
    read to train on it is what training sees.

    Args:
        dataset: the images and their objects.
        names: of each record's file.
    """
    if dataset.annotations is None:
        dataset = replace(dataset, annotations=annotations_of(dataset.records))
    content = dataset.ground_truth(with_marks=True)
    for image, name in zip(content["images"], names):
        image["file_name"] = name
    return content


def write_coco(path: Path, content: dict[str, Any]) -> None:
    """Write COCO's JSON, atomically, without indentation."""
    with whole_file(path) as stream:
        json.dump(content, stream, ensure_ascii=False, separators=(",", ":"))


def relative_names(dataset: Dataset, folder: Path) -> list[str]:
    """Each image's path relative to a folder, with `/`."""
    return [os.path.relpath(record.path, folder).replace(os.sep, "/") for record in dataset.records]
